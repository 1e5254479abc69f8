"""What a run's folder or a file of settings would have done that nobody at the keyboard named: run code, send a key.

A run that is begun is signed with a secret that this user alone can read, so that its folder can be told from one that
another user or machine made; so is what decides its result. See docs/security.md.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from trueup import errors, files, words
from trueup.config import layers, resolve
from trueup.methods import MethodInfo
from trueup.settings import annotator_kinds, annotator_settings, gathering_settings, validation

SEALED_FILE = "sealed.json"
SIGNED = "signed"
CODE = {"trust_remote_code": "runs Python code that lies in the folders of models", "function": "runs that file"}
"""Settings, of whatever judges or by themselves, that have code run -> what they do."""
ADDRESS, VARIABLE = "base_url", "key_variable"
"""A server, and the environment variable that is sent there."""
SAMPLERS = gathering_settings.SamplerSettings.model_fields[VARIABLE].default


def unnamed(layer: layers.Layer, named: layers.Layer) -> list[str]:
    """What plain settings run or send, for messages; without what the person at the keyboard named beside them."""
    layer, named, found = _spread(layer), _spread(named), []
    for name, value in layer.items():
        whose, _, last = name.rpartition(".")
        known = any(validation.same(value or False, one) for one in (False, named.get(name) or False))
        if last in CODE and not known:
            found.append(f"{name} {value!a} ({CODE[last]})")
        if last == ADDRESS and value:
            default = SAMPLERS if whose == "sampler" else annotator_kinds.EndpointAnnotator.key_variable
            variable = f"{whose}.{VARIABLE}"
            sent = layer.get(variable, default)
            if not validation.same(value, named.get(name)) or sent not in (default, named.get(variable)):
                key = f"the key in the environment variable {sent!a}, {variable}"
                found.append(f"{name} {value!a} (gets texts, and {key})")
    return found


def _spread(layer: layers.Layer) -> layers.Layer:
    found = dict(layer)
    for name, several in layer.items():
        members = several if isinstance(several, list | tuple) else [several]
        for place, one in enumerate(members if name.endswith(".of") else ()):
            with suppress(ValueError):  # which the settings themselves refuse
                given = annotator_settings.spelled(one)
                found |= {f"{name}.{place}.{key}": value for key, value in dict(given).items()}
    return found


def refuse_run(run: str | Path, info: MethodInfo, named: Mapping[str, Any], *, trusted: bool) -> None:
    """Refuse to go on with a run of another user or machine that would run code or send a key, unless that was named.
    `trusted`: it may; the run counts as this user's own from here on."""
    layer = layers.flatten(layers.read_yaml(Path(run) / resolve.RUN_FILE)[0]["settings"])
    told = unnamed(layer, resolve.read_layers(info, None, named).layer)
    if not told or is_own(run, layer):
        return
    _refuse(f"{run} was not begun here by this user", told, trusted=trusted)
    if sealed := sealed_content(run):
        signed = signature(sealed, layer)
        with suppress(OSError), files.replaced_file(Path(run) / SEALED_FILE) as file:
            file.write(json.dumps({**sealed, SIGNED: signed}, indent=1).encode() + b"\n")


def refuse_config(path: str | Path, info: MethodInfo, named: Mapping[str, Any], *, trusted: bool) -> None:
    """Refuse a file of settings of somebody else, where it would run code or send a key; say so of one's own."""
    values, _ = layers.read_yaml(path)
    told = unnamed(resolve.read_layers(info, path, {}).layer, resolve.read_layers(info, None, named).layer)
    if told and (why := _not_own(Path(path), values)):
        _refuse(f"{path} {why}", told, trusted=trusted)
    elif told:
        words.logger.info(f"{path}: {'; '.join(told)}")


def _not_own(path: Path, values: Mapping[str, Any]) -> str:
    if isinstance(values.get("method_settings"), dict) and isinstance(values.get("settings"), dict):
        own = path.name == resolve.RUN_FILE and is_own(path.parent, layers.flatten(values["settings"]))
        return "" if own else "is the record of a run that was not begun here by this user"
    if os.name != "posix":
        return ""
    found = path.stat()
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    # A group of the user's own has the user's number, as is usual where files are open to their group.
    others = 0o022 if found.st_gid != found.st_uid else 0o002
    return "may be written by others" if found.st_mode & others else ""


def _refuse(what: str, told: list[str], *, trusted: bool) -> None:
    if not trusted:
        instead = "look at it; then give it on the command line, or --trust-run"
        raise errors.InputError(f"{what}, and has what you have not named: {'; '.join(told)}; {instead}")
    words.logger.warning(f"{what}, and is trusted with: {'; '.join(told)}")


def is_own(run: str | Path, layer: layers.Layer) -> bool:
    """Whether this user began a run, and what decides its result is as it was then."""
    content = sealed_content(run)
    signed, expected = content.pop(SIGNED, None), signature(content, layer, make=False)
    known = isinstance(signed, str) and bool(expected)
    return known and hmac.compare_digest(signed.encode(), expected.encode())


def signature(sealed: Mapping[str, Any], layer: layers.Layer, *, make: bool = True) -> str:
    """Of what decides a run's result and what it may run and send; empty where there is no secret."""
    secret = _secret(make=make)
    names = {*CODE, ADDRESS, VARIABLE}
    content = {name: value for name, value in sealed.items() if name != SIGNED}
    sent = {name: value for name, value in _spread(layer).items() if name.rpartition(".")[2] in names}
    told = json.dumps([content, sent], sort_keys=True)
    return hmac.new(secret, told.encode(), hashlib.sha256).hexdigest() if secret else ""


def sealed_content(run: str | Path) -> dict[str, Any]:
    try:
        content = json.loads((Path(run) / SEALED_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _secret(*, make: bool) -> bytes:
    for folder in (files.config_folder, files.cache_folder):
        with suppress(OSError, errors.InputError):
            file = folder() / f"runs-of-{os.geteuid() if os.name == 'posix' else 'user'}.key"
            if make and not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(file.with_suffix(".lock")):
                    if not file.exists():
                        with files.replaced_file(file) as opened:
                            os.chmod(opened.name, 0o600)
                            opened.write(secrets.token_bytes(32))
            found = file.stat()
            if os.name != "posix" or (found.st_uid == os.geteuid() and not found.st_mode & 0o077):
                return file.read_bytes()
    return b""
