"""Names that try to be paths, written as an attacker sends them: already percent-encoded, and without `?` and `#`."""

from pathlib import Path

LOOK_ALIKES = [
    "%EF%BC%8E%EF%BC%8E%EF%BC%8F%EF%BC%8E%EF%BC%8E%EF%BC%8Fetc",  # fullwidth dots and slashes
    "%E2%80%A5%E2%88%95%E2%80%A5%E2%88%95etc",  # two-dot leaders, division slashes
    "%E2%80%A4%E2%80%A4%E2%81%84etc",  # one-dot leaders, fraction slash
    "..%EF%BC%BC..%EF%BC%BCetc",  # fullwidth backslashes
    "%u002e%u002e%u002f%u002e%u002e%u002fetc",
    "%E2%80%AE..%2fetc",  # right-to-left override
    "%D1%81job_%D0%BE",  # Cyrillic letters
    "\uff0e\uff0e\u2215etc",  # not encoded at all
]
WINDOWS = [
    "C:%5cWindows%5cwin.ini",
    "C:/Windows/win.ini",
    "%5c%5cserver%5cshare%5cx",
    "%5c%5c%3f%5cC:%5cx",
    "..\\..\\outside\\canary.txt",
    "..%5c..%5coutside%5ccanary.txt",
    "..%255c..%255coutside%255ccanary.txt",
    ".%5c",
    "CON",
    "nul.txt",
    "LPT1",
    "x::$DATA",
    "x.%20",
]
CONTROL = [
    "%00",
    "..%2f..%2foutside%2fcanary.txt%00.json",
    "x%0a..%2fy",
    "x%0d%0aLocation:%20http:%2f%2fexample.com",
    "%1b[31m",
    "%7f",
    "x%09",
]
OVERLONG = [
    "%c0%ae%c0%ae%c0%afetc",
    "%e0%80%ae%e0%80%ae%e0%80%afetc",
    "%f0%80%80%ae%f0%80%80%ae%f0%80%80%afetc",
    "%c0%2e%c0%2e%c1%9cetc",
    "%ed%a0%80",
    "%ff%fe",
    "%2",
]
LONG = ["a" * 5000, "..%2f" * 2000, "%252e" * 2000, "%c3%a9" * 3000, "x" * 255 + ".json"]
OTHER = ["~root%2f.ssh%2fid_rsa", "$HOME%2fx", ".git%2fconfig", ".digests", "*", "-rf", "|id;`id`", "%25", "{job_id}"]


def hostile_paths(canary: Path, *, real_id: str) -> list[str]:
    """At least 60 different ones; some name the file `canary`, some hide behind an id that exists."""
    target = str(canary)
    beside = f"{canary.parent.name}/{canary.name}"
    encoded = beside.replace("/", "%2f")
    dots = [
        *("..", ".", "...", "../", f"../{beside}", f"../../../{beside}", f"..//{beside}", f"x/../../{beside}"),
        *("../../../../../../../../etc/passwd", "./../etc/passwd", "....//....//etc/passwd", "..;/etc/passwd"),
        *("%2e", "%2e%2e", f"%2e%2e%2f{encoded}", f"..%2f..%2f{encoded}", f"..%2f..%2f..%2f..%2f{encoded}"),
        *("%2e%2e/%2e%2e/etc/passwd", ".%2e/etc/passwd", "..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd"),
        *("%252e%252e%252fetc%252fpasswd", f"..%252f..%252f{encoded}", "%25252e%25252e%25252fetc"),
    ]
    absolute = [
        *(target, target.replace("/", "%2f"), target.replace("/", "%252f"), f"/{target}", f"file://{target}"),
        *("/etc/passwd", "%2fetc%2fpasswd", "/proc/self/environ", "%2fproc%2fself%2fenviron", "%2fetc%2fhostname"),
    ]
    behind = [f"{real_id}%00", f"{real_id}%0a", f"{real_id}%20", f"{real_id}.json", f"{real_id}%2f..%2f..%2f{encoded}"]
    return [*dots, *absolute, *WINDOWS, *CONTROL, *OVERLONG, *LOOK_ALIKES, *LONG, *OTHER, *behind]
