"""`trueup label`: a page on this machine where people compare pairs, and the file of feedback that comes of it."""

import asyncio
import json
import secrets
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import uvicorn
from markdown_it import MarkdownIt
from starlette import applications, requests, responses, routing

from trueup import errors, stop, words
from trueup.feedback import canonical, records
from trueup.labelling import votes
from trueup.report.page import part
from trueup.settings import annotator_settings, command_settings
from trueup.sources.by_name import examples_named

HOST = "127.0.0.1"
LONGEST_NAME = 80
LONGEST_BODY = 10_000
POLICY = "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
POLICY += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
MARKDOWN.disable(["link", "image", "autolink", "reference", "html_block", "html_inline", "entity"])
ANSWERS = {*records.VERDICTS, votes.SKIP, votes.UNDO}


def label(settings: command_settings.LabelSettings) -> None:
    """Show the page until it is ended, and write the output. Raises InputError: a file cannot be read or written, or
    there is nothing to compare."""
    canonical.check_output(settings.output, force=True)
    clicks = opened(settings)
    with closing(clicks):
        if not settings.export:
            _serve(clicks, settings)
        write(clicks)


def opened(settings: command_settings.LabelSettings) -> votes.Clicks:
    examples = examples_named(settings.data, settings, skip_bad=settings.skip_bad).examples
    gold = examples_named(settings.gold, settings).examples if settings.gold else ()
    clicks = votes.Clicks(Path(f"{settings.output}.db"), examples, gold, settings)
    if clicks.pairs and (clicks.gold or not gold):
        return clicks
    clicks.close()
    if clicks.pairs:
        gold_files = ", ".join(settings.gold)
        raise errors.InputError(f"{gold_files}: no pair has a known answer; give comparisons or scores")
    which = "that nothing decides " if settings.undecided else ""
    none = f"{', '.join(settings.data)}: no prompt has two different responses {which}to compare"
    raise errors.InputError(f"{none}; give several to a prompt (trueup sample --responses 2)")


def write(clicks: votes.Clicks) -> str:
    examples, output = clicks.examples(), clicks.settings.output
    if not examples:
        line = f"nothing is compared yet, and {output} is not written"
    else:
        canonical.write_examples(output, examples)
        said = words.counted(sum(len(one.votes) for one in examples), "judgement")
        made = words.counted(sum(len(one.comparisons) for one in examples), "comparison")
        line = f"{said} and {made} of {words.counted(len(examples), 'prompt')} written to {output}"
    words.logger.info(line)
    return line


def rendered(content: records.Content) -> str:
    """Text or messages as safe HTML: what would be HTML, a link or an image stays text, and what hides is spelled."""
    if isinstance(content, str):
        return str(MARKDOWN.render(words.spelled(content)))
    parts = []
    for one in content:
        extra = {key: value for key, value in one.extra.items() if value}
        more = f"\n\n```json\n{json.dumps(extra, indent=1, default=str)}\n```" if extra else ""
        role = f"<h4>{MARKDOWN.renderInline(words.spelled(one.role))}</h4>"
        parts.append(f"<section>{role}{MARKDOWN.render(words.spelled(one.content + more))}</section>")
    return "".join(parts)


def shown_pair(clicks: votes.Clicks, person: str) -> dict[str, Any]:
    """What the page shows a person now, JSON-ready: nothing of it tells who wrote a response, or whether it is gold."""
    found, criterion = clicks.next(person), clicks.settings.criterion
    said: dict[str, Any] = {"number": clicks.counts[person], "progress": clicks.progress(person)}
    said |= {"pair": None, "criterion": annotator_settings.CRITERIA.get(criterion, criterion)}
    if found is not None:
        pair, swapped = found
        places = (pair.other, pair.one) if swapped else (pair.one, pair.other)
        first, second = (pair.example.responses[at].content for at in places)
        if not isinstance(first, str) and not isinstance(second, str) and len(first) == len(second) == 1:
            first, second = (one[0].content if not one[0].extra else one for one in (first, second))
        shown = {"prompt": pair.example.prompt.content, "first": first, "second": second}
        said["pair"] = {name: rendered(content) for name, content in shown.items()}
    return said


def application(clicks: votes.Clicks, token: str, port: int) -> applications.Starlette:
    """The page and what it asks, under an address that begins with the token.
    Refused are requests for another host (DNS rebinding), from another origin, and without the token."""
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}
    nonce = secrets.token_urlsafe(16)
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    page = page.replace("STYLE", part("page.css")).replace("NONCE", nonce)
    headers = {
        "Content-Security-Policy": POLICY.format(nonce), "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin",
    }  # fmt: skip

    def refused(status: int, why: str) -> responses.Response:
        return responses.JSONResponse({"error": why}, status, headers)

    async def answer(request: requests.Request) -> responses.Response:
        host = request.headers.get("host")
        if host not in hosts:
            return refused(403, "this page is for this machine alone")
        if request.headers.get("origin", f"http://{host}") != f"http://{host}":
            return refused(403, "another page may not ask here")
        if not secrets.compare_digest(request.path_params["token"].encode(), token.encode()):
            return refused(404, "the address lacks the token that was printed with it")
        what = request.path_params["what"]
        if not what and request.method == "GET":
            return responses.HTMLResponse(page, headers=headers)
        if request.method != "POST" or what not in ("next", "click", "export"):
            return refused(404, "there is no such page")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_BODY:
                return refused(413, "a click is smaller")
        try:
            given = json.loads(body)
            name, number, verdict = given["person"].strip(), given.get("number"), given.get("verdict")
            if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
                return refused(400, f"a name has 1 to {LONGEST_NAME} visible characters")
        except (ValueError, LookupError, TypeError, AttributeError):
            return refused(400, "this is no click")
        try:
            if what == "export":
                return responses.JSONResponse({"said": write(clicks)}, headers=headers)
            if what == "click" and verdict not in ANSWERS:
                return refused(400, f"unknown verdict {words.shortened(str(verdict))}")
            kept = what == "next" or clicks.add(name, number, verdict)
            return responses.JSONResponse(shown_pair(clicks, name) | {"kept": kept}, headers=headers)
        except errors.InputError as error:
            words.logger.warning(str(error))
            return refused(507, str(error))

    routes = [routing.Route("/{token}/{what:path}", answer, methods=["GET", "POST"])]
    return applications.Starlette(routes=routes)


def _serve(clicks: votes.Clicks, settings: command_settings.LabelSettings) -> None:
    listening = socket.socket()
    with closing(listening):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, settings.port))
            listening.listen()
        except OSError as error:
            why = f"{words.reason(error)}; give another --port"
            raise errors.InputError(f"port {settings.port} of {HOST}: {why}") from error
        port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        config = uvicorn.Config(
            application(clicks, token, port), log_level="critical", server_header=False, access_log=False,
            lifespan="off", timeout_graceful_shutdown=2,
        )  # fmt: skip
        so_far = words.counted(sum(map(len, clicks.valid.values())), "judgement")
        words.logger.info(f"{words.counted(len(clicks.pairs), 'pair')} to compare, {so_far} so far")
        server, address = uvicorn.Server(config), f"http://{HOST}:{port}/{token}/"

        async def serve() -> None:
            running = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started and not running.done():  # until then nobody would heed a Ctrl-C
                await asyncio.sleep(0.01)
            words.logger.info(f"open {address} in a browser; Ctrl-C ends and writes {settings.output}")
            await running

        with stop.on_signals():
            asyncio.run(serve())
