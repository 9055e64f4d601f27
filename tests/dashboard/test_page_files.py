"""The files of the page, as texts: nothing in them turns a string into markup or code, loads from elsewhere, or is
missing where it is installed."""

import configparser
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "hpcnas" / "dashboard" / "page"
FILES = sorted(path for path in PAGE.rglob("*") if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
NAMESPACE = "http://www.w3.org/2000/svg"  # the name of a kind of elements, which nothing is loaded from
LONGEST = 120  # characters of a line

FORBIDDEN = {
    "markup of a string": r"(?:inner|outer|Adjacent)HTML|document\.write|DOMParser|srcdoc|setHTML|ContextualFrag",
    "code of a string": r"\beval\b|new Function|set(?:Timeout|Interval)\(\s*[\"'`]|javascript:",
    "handler in markup": r"<[^>]+\son\w+\s*=\s*[\"']",
    "address elsewhere": r"(?:https?|wss?)://|[\"'`(]//\w",
    "traces of WebGL, which make code of strings": r"type:\s*[\"']\w*gl\w*[\"']",
}


def name(path: Path) -> str:
    return path.relative_to(PAGE).as_posix()


def offences(text: str) -> list[str]:
    text = text.replace(NAMESPACE, "")
    return [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text)]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_in_the_page_makes_markup_or_code_of_strings_or_loads_from_elsewhere(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("root.innerHTML = name;", "markup of a string"),
        ("eval(text)", "code of a string"),
        ("setTimeout('go()', 5)", "code of a string"),
        ('<button onclick="go()">', "handler in markup"),
        ('<script src="https://example.org/a.js"></script>', "address elsewhere"),
        ('import("//example.org/a.js")', "address elsewhere"),
        ('{ type: "scattergl" }', "traces of WebGL, which make code of strings"),
    ],
)
def test_offences_are_seen(text, what):
    assert offences(text) == [what]


def test_the_scripts_of_the_page_are_files_of_its_own():
    index = (PAGE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", index, re.DOTALL) == [""]
    assert "<style" not in index
    loaded = re.findall(r'(?:src|href)="([^"#][^"]*)"', index)
    assert loaded == ["data:,", "static/style.css", "static/main.js"]


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_every_module_that_is_imported_exists(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"(?:^import\s|\bfrom\s+|\bimport\()\s*[\"'](\.[^\"']+)[\"']", text, re.MULTILINE):
        assert (path.parent / target).resolve() in FILES, f"{name(path)} imports {target}"


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_names_that_are_imported_are_exported(path):
    text = path.read_text(encoding="utf-8")
    for names, target in re.findall(r"^import \{([^}]*)\} from \"(\.[^\"]+)\";", text, re.MULTILINE):
        exporting = (path.parent / target).resolve().read_text(encoding="utf-8")
        exported = re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", exporting, re.MULTILINE)
        for one in filter(None, (part.split(" as ")[0].strip() for part in names.split(","))):
            assert one in exported, f"{name(path)} imports {one} of {target}"
            assert len(re.findall(rf"\b{one}\b", text)) > 1, f"{name(path)} imports {one} and does not use it"


def test_every_view_of_the_router_and_every_tab_has_its_module():
    main, search = ((PAGE / file).read_text(encoding="utf-8") for file in ("main.js", "views/search.js"))
    views = re.findall(r'"(\w+)"', re.search(r"const VIEWS = \[(.*?)\]", main)[1])
    tabs = re.findall(r'\["(\w+)", ', re.search(r"const TABS = \[(.*?)\];", search, re.DOTALL)[1])
    assert len(views) == 4
    assert len(tabs) == 7
    for one in [*views, *tabs, "individual"]:
        text = (PAGE / "views" / f"{one}.js").read_text(encoding="utf-8")
        assert "export async function render(" in text, one


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_names_that_are_exported_are_used_elsewhere(path):
    exported = re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", path.read_text("utf-8"), re.MULTILINE)
    others = "\n".join(one.read_text(encoding="utf-8") for one in SCRIPTS if one != path)
    assert [one for one in exported if not re.search(rf"\b{one}\b", others)] == []


def test_the_package_holds_every_file_of_the_page():
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[2] / "setup.cfg")
    patterns = settings["options.package_data"]["hpcnas"].split()
    assert {f"**/*{path.suffix}" for path in FILES} <= set(patterns)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_lines_are_short_and_files_have_one_purpose(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, start=1) if len(line) > LONGEST] == []
    assert len(lines) <= 450
    if path.suffix == ".js":
        assert lines[0].startswith("// "), "the file says what it is for"
