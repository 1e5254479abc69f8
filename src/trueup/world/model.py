"""The world's small language model: its tokenizer, its training from nothing, and its folder in a cache."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import torch
import transformers
from filelock import FileLock
from tokenizers import Tokenizer, models, pre_tokenizers

from trueup import display, errors, files
from trueup.models.tokenizer import quiet_library
from trueup.sampling.decoding import Decoder, draw
from trueup.settings.gathering_settings import SamplerSettings
from trueup.words import logger
from trueup.world import language, people

Batch = tuple[torch.Tensor, torch.Tensor]
FastTokenizer = transformers.PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
MAX_LENGTH = 128
STEPS = 1500
BATCH_SIZE = 32
LEARNING_RATE = 5e-3
WARMUP = 20
SORTED_BATCHES = 16

SOURCES = ("language", "people", "model")
DIGEST = ".digest"


def make_tokenizer() -> FastTokenizer:
    """A Hugging Face tokenizer of the world's words, with the marks that a reward can be written with.
    Encoding adds no special token: ids of prompt and response are those of the two texts joined by a space."""
    words = (PAD, BOS, EOS, UNKNOWN, *language.WORDS, *language.MARKS)
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN,
        padding_side="left", model_max_length=MAX_LENGTH, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def world_config(tokenizer: transformers.PreTrainedTokenizerFast) -> transformers.LlamaConfig:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    return transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, intermediate_size=192,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, tie_word_embeddings=True,
        initializer_range=0.125, **ids,
    )  # fmt: skip


def batches(tokenizer: transformers.PreTrainedTokenizerFast, rng: Random) -> Iterator[Batch]:
    """Endless batches of fresh demonstrations: token ids [N, T], and which of them belong to a response."""
    ids: dict[str, int] = tokenizer.get_vocab()

    def demonstration() -> tuple[list[int], list[int]]:
        prompt = language.render(language.random_task(rng))
        (response,) = people.demonstrator(prompt, 1, rng)
        answered = [*(ids[word] for word in response.split()), ids[tokenizer.eos_token]]
        return [ids[word] for word in prompt.split()], answered

    pool_size = BATCH_SIZE * SORTED_BATCHES
    while True:
        pool = [demonstration() for _ in range(pool_size)]
        pool.sort(key=lambda row: len(row[0]) + len(row[1]))
        cut = [pool[first : first + BATCH_SIZE] for first in range(0, pool_size, BATCH_SIZE)]
        rng.shuffle(cut)
        yield from map(padded, cut)


def padded(rows: list[tuple[list[int], list[int]]]) -> Batch:
    """(prompt, response) ids -> token ids [N, T] padded right with 0, and a mask of the response tokens."""
    length = max(len(prompt) + len(response) for prompt, response in rows)
    token_ids_NT = torch.zeros(len(rows), length, dtype=torch.long)
    response_NT = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        token_ids_NT[row, :end] = torch.tensor(prompt + response)
        response_NT[row, len(prompt) : end] = True
    return token_ids_NT, response_NT


Trained = tuple[transformers.LlamaForCausalLM, FastTokenizer]


def train_world_model(*, seed: int = 0, steps: int = STEPS) -> Trained:
    """A model trained on the demonstrator's responses, on one thread whatever torch is set to, and its tokenizer."""
    tokenizer = make_tokenizer()
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = transformers.LlamaForCausalLM(world_config(tokenizer))
            _train(model, batches(tokenizer, Random(seed)), steps)
    finally:
        torch.set_num_threads(num_threads)
    model.train(False)
    return model, tokenizer


def _train(model: transformers.LlamaForCausalLM, data: Iterator[Batch], steps: int) -> None:
    weights, betas = model.parameters(), (0.9, 0.98)
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=betas, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
    )
    model.train()
    with display.bar("making the world's model", steps) as advance:
        for step in range(steps):
            token_ids_NT, response_NT = next(data)
            # No attention mask: padding stands on the right, where no real token looks.
            hidden_NTD = model.model(input_ids=token_ids_NT, use_cache=False).last_hidden_state
            predicted = response_NT[:, 1:]
            logits = model.lm_head(hidden_NTD[:, :-1][predicted])
            loss = torch.nn.functional.cross_entropy(logits, token_ids_NT[:, 1:][predicted])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            advance(step + 1, {"loss": loss.item()})


def make_world_model(folder: str | Path, *, seed: int = 0, steps: int = STEPS) -> Path:
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _save(*train_world_model(seed=seed, steps=steps), folder)
    except OSError as error:
        raise errors.InputError(f"cannot write the world model to {folder}: {error}") from error
    return folder


def world_model_path(seed: int = 0, *, steps: int = STEPS) -> Path:
    """The folder of the world model of this seed, made now unless it is in the cache.
    A folder appears there whole or not at all; its name changes with all that its content depends on. One whose files
    are no longer as they were written is made again; of two processes the second waits for the first."""
    cache = files.cache_folder()
    folder = cache / f"world-{seed}-{_fingerprint(seed, steps)}"
    if _is_as_written(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):
            if not _is_as_written(folder):
                if folder.exists():
                    logger.warning(f"{folder}: the model in the cache is damaged; it is made again")
                with files.replaced_folder(folder) as making:
                    _save(*train_world_model(seed=seed, steps=steps), making)
                    (making / DIGEST).write_text(files.content_identity(making), encoding="ascii")
    except OSError as error:
        where = f"cannot write the world model to the cache folder {cache}: {error}"
        raise errors.InputError(f"{where}; set TRUEUP_CACHE to a folder that can be written") from error
    return folder


def _is_as_written(folder: Path) -> bool:
    try:
        return (folder / DIGEST).read_bytes() == files.content_identity(folder).encode()
    except OSError:
        return False


def _save(model: transformers.LlamaForCausalLM, tokenizer: FastTokenizer, folder: Path) -> None:
    with quiet_library():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _fingerprint(seed: int, steps: int) -> str:
    sources = [Path(__file__).with_name(f"{name}.py") for name in SOURCES]
    given = f"{seed} {steps} {torch.__version__} {transformers.__version__}"
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources) + given.encode()).hexdigest()[:12]


def answers(
    model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase,
    prompts: Sequence[str], *, max_new_tokens: int = 40, generator: torch.Generator | None = None,
) -> list[str]:  # fmt: skip
    decoder, encoded = Decoder(model, [tokenizer.eos_token_id]), list(map(tokenizer.encode, prompts))
    settings = SamplerSettings(responses=1, max_new_tokens=max_new_tokens)
    completions = draw(decoder, encoded, settings=settings, generator=generator or torch.default_generator)
    return [str(tokenizer.decode(list(one.ids), skip_special_tokens=True)) for one in completions]


def written_by(
    model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase,
    prompts: Sequence[str], num_responses: int, *, max_new_tokens: int = 40,
    generator: torch.Generator | None = None,
) -> people.Writer:  # fmt: skip
    """A writer for `examples` that answers these prompts with the model's own samples, sampled here in one go."""
    repeated = [prompt for prompt in prompts for _ in range(num_responses)]
    said = answers(model, tokenizer, repeated, max_new_tokens=max_new_tokens, generator=generator)
    texts: dict[str, list[str]] = defaultdict(list)
    for prompt, text in zip(repeated, said, strict=True):
        texts[prompt].append(text)

    def model_samples(prompt: str, k: int, rng: Random) -> tuple[str, ...]:
        return tuple(rng.sample(texts[prompt], k))

    return model_samples
