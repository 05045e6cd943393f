"""Take passwords out of text that others wrote: flags, headers, environments, log lines. Their names stay, their values
become `***`.

By name where a name tells, by form where the value does, and by value where it is known: what a server was given on its
command line or in its environment is hidden wherever it is printed. None, True, False and plain numbers stay. Every
expression is bounded, so that a hostile line costs no more than its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

HIDDEN = "***"
_KEPT = re.compile(r"(?:None|True|False|null|true|false|\*{3}|[\d.,]{1,20})")
# A name that stands for a secret: as code and flags write it, or as environments do. `tokens`, as in counts, is none.
_LOWER = (
    r"(?:[\w-]{0,32}[-_])?(?:api[-_]?key|access[-_]?key|secret[-_]?key|private[-_]?key|apikey|secret|passwd|password|"
    r"passphrase|credentials?|auth[-_]?token|token)"
)
_UPPER = r"[A-Z][A-Z0-9_]{0,48}(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)"
_NAME = rf"(?<![\w-])(?:--)?(?:(?i:{_LOWER})|{_UPPER}|(?i:[a-z]{{1,24}}password|hf[-_]?token))(?![\w-])"
_QUOTE = r"\\{0,3}[\"']"
_BYTES = "b?"  # before a quote, as Python prints bytes
_VALUE = rf"(?:{_BYTES}(?P<q>{_QUOTE})(?P<quoted>[^\n]{{0,1024}}?)(?P=q)|(?P<bare>[^\s\"'\\,;)\]}}]{{1,1024}}))"
_HEADER = r"(?i:(?<![\w-])(?:proxy-)?authorization|x-api-key|api-key|x-auth-token|(?<![\w-])(?:set-)?cookie)"
_NAMED = (
    re.compile(rf"(?P<head>{_NAME}(?:{_QUOTE})?\s{{0,4}}[=:]\s{{0,4}}){_VALUE}"),
    re.compile(rf"(?P<head>--(?i:{_LOWER})(?:{_QUOTE})?[\s,]{{1,4}}){_VALUE}"),
    # A pair, as headers and environments are printed.
    re.compile(rf"(?P<head>{_QUOTE}(?:(?i:{_LOWER})|{_UPPER}|{_HEADER}){_QUOTE}\s{{0,4}},\s{{0,4}}){_VALUE}"),
    re.compile(
        rf"(?P<head>\bauth\s{{0,4}}=\s{{0,4}}\(\s{{0,4}}{_QUOTE}[^\"'\n]{{0,128}}{_QUOTE}\s{{0,4}},\s{{0,4}}){_VALUE}"
    ),
)
# A header's value goes on to the end of the line, or of what it is quoted in.
_HEADERS = re.compile(
    rf"(?P<head>{_HEADER}(?:{_QUOTE})?\s{{0,4}}[:=]\s{{0,4}}(?:{_QUOTE})?)(?P<rest>[^\"'\\\n]{{1,2048}})"
)
_FORMS = (
    re.compile(r"(?P<head>\b(?i:bearer|basic) )[\w.~+/=-]{8,1024}"),
    # To the last @ before the path: a password may hold one.
    re.compile(r"(?P<head>\b\w{1,16}://)[^\s/\"']{1,256}(?=@[\w.\[-])"),
    re.compile(
        r"(?P<head>(?<![\w@/.:-])[\w.-]{1,64}:)(?=[^\s/\"']{0,64}[A-Za-z])[^\s/:\"']{1,128}(?=@[\w-]{1,64}[.:][\w])"
    ),
    re.compile(
        r"(?P<head>)(?<![\w-])(?:(?:sk|hf|ghp|gho|ghs|ghu|glpat|nvapi|xox[abprs])[-_][\w-]{16,512}|github_pat_\w{16,512}|"
        r"AKIA[0-9A-Z]{16}|AIza[\w-]{30,64}|eyJ[\w-]{8,2048}\.[\w-]{8,4096}\.[\w-]{4,1024})"
    ),
)
# Most lines of a server have none of these, and are not looked at again.
_HINTS = (
    *("key", "secret", "passw", "passphrase", "credential", "auth", "cookie", "bearer", "basic", "@", "_token"),
    *("-token", "sk-", "sk_", "hf_", "hf-", "ghp_", "gho_", "ghs_", "ghu_", "glpat", "nvapi", "xox", "github_pat"),
    *("akia", "aiza", "eyj"),
)
_TOKEN = re.compile(r"token[\"'\\]{0,4}\s{0,4}[=:,]\s{0,4}[\"'b\\]{0,4}[^\s\d]")
_SHORTEST = 6  # characters: a shorter value would hide words that are none


def masked(text: str) -> str:
    """`text` with the values of keys, tokens, passwords, headers and URL credentials hidden."""
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS) and not _TOKEN.search(lowered):
        return text
    for pattern in _NAMED:
        text = pattern.sub(_by_name, text)
    text = _HEADERS.sub(_by_header, text)
    for pattern in _FORMS:
        text = pattern.sub(rf"\g<head>{HIDDEN}", text)
    return text


def _by_name(found: re.Match[str]) -> str:
    value = found["quoted"] if found["q"] else found["bare"]
    if not value or _KEPT.fullmatch(value):
        return found[0]
    quote = found["q"] or ""
    return f"{found['head']}{quote}{HIDDEN}{quote}"


def _by_header(found: re.Match[str]) -> str:
    return found[0] if _KEPT.fullmatch(found["rest"].strip(" ,;)]}")) else f"{found['head']}{HIDDEN}"


def known_values(arguments: Sequence[str], environ: Mapping[str, str]) -> frozenset[str]:
    """The secrets that a process was given: values of flags and variables whose names tell."""
    name = re.compile(rf"(?:{_NAME})$")
    found = {value for key, value in environ.items() if name.search(key)}
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        head, given, inline = flag.partition("=")
        if name.search(head):
            found.add(inline if given else value)
    return frozenset(value for value in found if len(value) >= _SHORTEST and not _KEPT.fullmatch(value))


def masker(values: Iterable[str] = ()) -> Callable[[str], str]:
    """`masked`, which hides these values too wherever they stand, as they are or escaped for JSON."""
    literal = sorted({form for value in values for form in (value, value.replace("/", "\\/"))}, key=len, reverse=True)
    if not literal:
        return masked
    anywhere = re.compile("|".join(map(re.escape, literal)))
    return lambda text: masked(anywhere.sub(HIDDEN, text))
