"""A model's folder in Hugging Face format: what it holds and whether it is whole, from names, sizes and JSON alone.
Whatever takes the name of a model takes that of one of the hub too (`trueup.model_hub`)."""

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trueup import errors, model_hub, words
from trueup.files import content_identity

WORLD = "world"  # stands for the built-in model where a folder is asked for
ADAPTER = "adapter_config.json"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
    *("vocab.json", "vocab.txt"),
)
COUNTS = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    *("num_experts", "num_local_experts", "n_routed_experts"),
)
WIDTHS = (
    *("vocab_size", "hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim"),
    *("num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "r"),
)
POSITIONS = ("max_position_embeddings", "n_positions")
"""Of configurations: how many layers and the like there are, how wide they are, and how much is read."""
SPARE = 8  # how much more of that a configuration may name than the weights show, as some are packed or shared
MOST = 100_000  # the same where there are no weights
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library


def check_model(folder: str, *, trust_remote_code: bool, weights: bool = True, world: bool = True) -> str:
    """Check that a folder holds a whole model or adapter in Hugging Face format; one of the hub is fetched first.
    Without `weights` it need only encode text; with `world` the built-in model will do. Of the hub it gets its
    commit."""
    if model_hub.is_hub_model(folder):
        name, inner = model_hub.fetched(folder, weights=weights)
        with errors.naming(name):
            check_model(inner, trust_remote_code=trust_remote_code, weights=weights)
        return name
    path = Path(folder)
    if not path.is_dir():
        raise errors.InputError(_no_folder(folder, world))
    if is_adapter(path):
        _check_sizes(path / ADAPTER, _check_weights(path, "adapter_model") if weights else [])
        base = base_folder(folder, weights=weights)
        check_model(base, trust_remote_code=trust_remote_code, weights=weights)
        return folder
    config = path / "config.json"
    if not config.exists():
        inner = str(path / "model")
        found = any((path / "model" / name).is_file() for name in ("config.json", ADAPTER))
        raise errors.InputError(
            f"{folder} has neither config.json nor {ADAPTER}, so it is no model's folder"
            f"{f'; did you mean {inner}?' if found else ''}"
        )
    _check_code(config, trust_remote_code)
    if weights and (how := _read_json(config).get("quantization_config")):
        if not is_quantized(folder):
            raise errors.InputError(
                f"{config}: weights quantized by {_method_of(how)}, which are not read; give the model that they were "
                "made of, and hold it in 4 bits by --quantize nf4 where that is wanted"
            )
        refuse_without_package(folder)
    _check_sizes(config, _check_weights(path, "model") if weights else [])
    if not any((path / name).exists() for name in TOKENIZER_FILES):
        raise errors.InputError(f"{folder} has no tokenizer ({', '.join(TOKENIZER_FILES)}); copy it there")
    return folder


def folder_of(name: str, *, weights: bool = True) -> str:
    """The folder of a model: what was given, or that of one of the hub, which is asked for what the cache lacks."""
    if not model_hub.is_hub_model(name):
        return name
    return model_hub.fetched(name, weights=weights, again=False)[1]


def model_content(path: Path) -> str:
    """Hash of a file or of a model's folder; of one of the hub of what is taken from there, whatever else is beside."""
    return content_identity(path, model_hub.is_taken if model_hub.origin_of(path) else None)


def at_chance(name: str, least: float) -> str:
    """What to say of a reward model that orders too few of its pairs rightly, by its reward.json; else nothing."""
    try:
        known = json.loads((Path(folder_of(name)) / "reward.json").read_text(encoding="utf-8"))
        right, where = float(known["accuracy"]), known["measured_on"]
    except (OSError, ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
        return ""
    told = f"reward model {name} orders {right:.0%} of its {words.printable(str(where))} pairs rightly, chance is 50%"
    return told if 0 <= right < least else ""


def is_adapter(folder: str | Path) -> bool:
    return (Path(folder) / ADAPTER).is_file()


def base_folder(folder: str, *, weights: bool = True) -> str:
    """The folder of the full model: the one given, or the one that an adapter names, which may be one of the hub."""
    if not is_adapter(folder):
        return folder
    adapter = Path(folder) / ADAPTER
    try:
        config = dict(json.loads(adapter.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, RecursionError) as error:  # no JSON object, or no UTF-8
        raise errors.InputError(f"{adapter}: not a PEFT adapter's configuration: {error}. Save it again") from error
    base = str(config.get("base_model_name_or_path") or "")
    for candidate in (Path(base), adapter.parent / base):
        if base and (candidate / "config.json").is_file():
            return str(candidate)
    revision = config.get("revision")
    if model_hub.is_hub_model(named := f"{base}@{revision}" if revision else base):
        try:
            return folder_of(named, weights=weights)
        except errors.InputError as error:
            raise errors.InputError(f"{adapter}: the adapter's base model {error}") from None
    raise errors.InputError(
        f"{adapter}: the adapter's base model is {base!r}, which is no folder here. Set base_model_name_or_path in "
        "that file to the folder of the base model"
    )


def scores_text(folder: str) -> bool:
    """Whether a folder holds a reward model, by its own word; a file that cannot be read says nothing."""
    if is_adapter(folder):
        return _config_of(folder, ADAPTER).get("task_type") == "SEQ_CLS"
    names = _config_of(folder).get("architectures")
    found = map(str, names if isinstance(names, list) else [])
    return any(name.endswith("ForSequenceClassification") for name in found)


def is_quantized(folder: str) -> bool:
    how = _config_of(folder).get("quantization_config")
    return isinstance(how, dict) and _method_of(how) == "bitsandbytes" and bool(how.get("load_in_4bit"))


def _config_of(folder: str, name: str = "config.json") -> dict[str, Any]:
    """What a configuration says; nothing where it cannot be read."""
    try:
        return _read_json(Path(folder) / name)
    except errors.InputError:
        return {}


def _method_of(how: Any) -> str:
    return str(how.get("quant_method") if isinstance(how, dict) else how)


def refuse_without_package(what: str) -> None:
    """Refuse weights in 4 bits where nothing computes with them."""
    if find_spec("bitsandbytes") is None:
        raise errors.InputError(
            f"{what} needs the package bitsandbytes, which is not installed here: pip install trueup[quantize], or "
            "give weights that are not quantized"
        )


def context_length(config: Any) -> int | None:
    """Tokens of one sequence that a model was made for, by its configuration; None where that does not say."""
    positions: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return positions


def check_safetensors(path: Path) -> dict[str, Any]:
    """Check that a safetensors file is as long as its header says, and return that: name -> `shape` and more."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else LARGEST_HEADER + 1
        if length > min(LARGEST_HEADER, max(size - 8, 0)):
            raise errors.InputError(f"{path} is cut short, or no safetensors file ({size} bytes); copy it again")
        header = file.read(length)
    try:
        tensors = {name: one for name, one in json.loads(header).items() if name != "__metadata__"}
        expected = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        if not all(type(size) is int for tensor in tensors.values() for size in tensor["shape"]):
            raise ValueError("a shape is made of numbers")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise errors.InputError(f"{path} has a damaged header; copy it again") from None
    if size != expected:
        fault = "is cut short" if size < expected else "is too long"
        raise errors.InputError(f"{path} {fault}: {size} bytes of {expected}; copy it again")
    return tensors


def _check_sizes(config: Path, shapes: list[list[int]]) -> None:
    """Refuse a configuration that its weights are nowhere near, before anything is built by it."""
    widest = max((size for shape in shapes for size in shape), default=MOST)
    bounds = {**dict.fromkeys(COUNTS, SPARE * (len(shapes) + SPARE) if shapes else MOST)}
    bounds |= dict.fromkeys(WIDTHS, SPARE * widest)
    values = _read_json(config)
    inner, ranks = (values.get(name) for name in ("text_config", "rank_pattern"))
    told = [*values.items(), *(inner.items() if isinstance(inner, dict) else ())]
    told += [("r", rank) for rank in ranks.values()] if isinstance(ranks, dict) else []
    for name, value in told:
        if name in POSITIONS and isinstance(value, int) and value < 2:
            raise errors.InputError(f"{config}: {name} is {value}, so that the model could read nothing. Mend it")
        if name in bounds and isinstance(value, int | float) and value > bounds[name]:
            beside = f"the weights beside it are {len(shapes)} tensors, no wider than {widest:,}"
            raise errors.InputError(
                f"{config}: {name} is {value:,}, and {beside if shapes else 'no model is like that'}. The two do not "
                "belong together; copy the model again"
            )


def _no_folder(name: str, world: bool) -> str:
    if Path(name).is_file():
        return f"model {name} is a file; give the folder it lies in"
    if model_hub.ID.fullmatch(name.partition("@")[0]) and "/" in name:
        here, of_hub = name.partition("/")[0], f"{model_hub.PREFIX}{name}"
        return f"model {name} is not a folder, and {here} is one here; of the hub it is {of_hub}"
    also = f", or {WORLD}" if world else ""
    return f"model {name} is not a folder; give a folder in Hugging Face format{also}"


def _check_weights(folder: Path, stem: str) -> list[list[int]]:
    index = folder / f"{stem}.safetensors.index.json"
    if index.exists():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise errors.InputError(f"{index} has no weight_map from names to files; copy it again")
        if outside := [shard for shard in shards.values() if Path(shard).name != shard]:
            raise errors.InputError(f"{index} names {outside[0]}, which is no file in its folder; copy the model again")
        files = [folder / shard for shard in sorted(set(shards.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise errors.InputError(f"{folder} lacks {', '.join(missing)}, named in {index.name}; copy it again")
    else:
        files = [folder / f"{stem}.safetensors"]
    if not files[0].is_file():
        pickles = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth"))
        if pickles:
            raise errors.InputError(
                f"{folder} has its weights in {pickles[0]} alone, a pickle, which can run code when it is read; "
                "if you trust it, load it with transformers and save it with save_pretrained, as safetensors"
            )
        raise errors.InputError(f"{folder} has no weights: {files[0].name} is missing")
    return [one["shape"] for file in files for one in check_safetensors(file).values()]


def _check_code(config: Path, trusted: bool) -> None:
    values = _read_json(config)
    attention = str(values.get("_attn_implementation") or values.get("attn_implementation"))
    if "/" in attention and not trusted:
        raise errors.InputError(
            f"{config} names the attention {words.as_given(attention)}, which would be downloaded and run. Take it out "
            "of the file"
        )
    if "auto_map" not in values or _known_architecture(values.get("model_type")):
        return
    if of_hub := model_hub.origin_of(config.parent):
        raise errors.InputError(
            f"{config} names Python code to run (auto_map), and no code is taken from the hub; read it there, then "
            f"hf download {of_hub[0]} --local-dir FOLDER, and give FOLDER with trust_remote_code true"
        )
    if not trusted:
        why = "names Python code to run (auto_map), and trust_remote_code is off"
        raise errors.InputError(f"{config} {why}; read the code, then give trust_remote_code true")


def _known_architecture(model_type: object) -> bool:
    """Whether transformers has this architecture itself, and so leaves the folder's code alone."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations or not isinstance(model_type, str):
        return False
    name = model_type.replace("-", "_")
    models = Path(next(iter(spec.submodule_search_locations))) / "models"
    return name.isidentifier() and (models / name / f"modeling_{name}.py").is_file()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise errors.InputError(f"{path} is not whole JSON ({error}); copy it again") from None
    if not isinstance(values, dict):
        raise errors.InputError(f"{path} must hold a JSON object; found {words.as_given(values)}")
    return values
