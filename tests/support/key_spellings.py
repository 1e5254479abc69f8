"""A key in every usual spelling, and what of it a text shows."""

import base64
import html
import json
from urllib.parse import quote, unquote

SECRET = "Zx9+Secret/Key=42&pony<ok>"
ESCAPED = "".join(f"\\u{ord(one):04x}" for one in SECRET)
SPELLED = {
    "as it is": SECRET,
    "percent": quote(SECRET, safe=""),
    "percent, lower": quote(SECRET, safe="").replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
    "percent, path": quote(SECRET),
    "percent, every character": "".join(f"%{ord(one):02x}" for one in SECRET),
    "percent, twice": quote(quote(SECRET, safe="")),
    "HTML": html.escape(SECRET),
    "HTML by numbers": "".join(f"&#{ord(one)};" for one in SECRET),
    "JSON": SECRET.replace("/", "\\/").replace("<", "\\u003c").replace("&", "\\u0026"),
    "JSON, every character": ESCAPED,
    "JSON in JSON": json.dumps(ESCAPED)[1:-1],
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(b"?" + SECRET.encode()).decode(),
    "base64 behind a user": base64.b64encode(f"us:{SECRET}".encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {SECRET}\n".encode()).decode(),
    "its beginning": SECRET[:16] + "...",
    "its end": "..." + SECRET[12:],
    "its beginning, percent": quote(SECRET, safe="")[:24],
    "its end in base64": base64.b64encode(SECRET.encode()).decode()[14:],
}


def shown_of_the_key(text: str) -> list[str]:
    """What of the key stands in a text: pieces of it by themselves, and what each spelling is known by."""
    plain = unquote(unquote(html.unescape(text))).lower()
    marks = ["secret", "pony", "\\u0053\\u0065", "\\u0070\\u006f", "%53%65"]
    pieces = [one[4:12].lower() for name, one in SPELLED.items() if "base64" in name]
    return [one for one in (*marks, *pieces) if one in plain or one in text.lower()]
