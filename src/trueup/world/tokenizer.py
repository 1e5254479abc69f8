"""The world's tokenizer: one word, one token."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from trueup.world.language import MARKS, WORDS

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
MAX_LENGTH = 128


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A Hugging Face tokenizer of the world's words, with the marks that a reward can be written with.

    Encoding adds no special token, so that the ids of a prompt followed by the ids of a response are the ids
    of the two texts joined by a space. Decoding gives back a text of known words with single spaces.
    """
    vocabulary = {word: index for index, word in enumerate((PAD, BOS, EOS, UNKNOWN, *WORDS, *MARKS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
