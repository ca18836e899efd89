"""Which language a file is written in, by its name. Only these are highlighted: whatever guesses by content can be led astray."""

from __future__ import annotations

from functools import cache

from pygments.lexers import LEXERS

# Classes of Pygments; of two that want the same name, the first gets it.
_LANGUAGES = (
    *("PythonLexer", "JavascriptLexer", "TypeScriptLexer", "TsxLexer", "HtmlLexer", "CssLexer", "ScssLexer", "SassLexer", "LessCssLexer"),
    *("JsonLexer", "YamlLexer", "TOMLLexer", "IniLexer", "PropertiesLexer", "XmlLexer", "MarkdownLexer", "RstLexer", "BashLexer"),
    *("GoLexer", "RustLexer", "CLexer", "CppLexer", "JavaLexer", "KotlinLexer", "ScalaLexer", "GroovyLexer", "CSharpLexer", "FSharpLexer"),
    *("SwiftLexer", "ObjectiveCLexer", "RubyLexer", "PhpLexer", "PerlLexer", "LuaLexer", "SLexer", "JuliaLexer", "DartLexer", "ZigLexer"),
    *("ElixirLexer", "ErlangLexer", "HaskellLexer", "OcamlLexer", "ClojureLexer", "CythonLexer", "SqlLexer", "GraphQLLexer", "VueLexer"),
    *("DockerLexer", "MakefileLexer", "CMakeLexer", "TerraformLexer", "NixLexer", "ProtoBufLexer", "PowerShellLexer", "BatchLexer"),
    *("DiffLexer", "TexLexer", "VimLexer", "NginxConfLexer", "GasLexer", "HtmlDjangoLexer"),
)


def language_of(path: str) -> str:
    """The name of the language's class in Pygments; "" for none."""
    name = path.rpartition("/")[2].lower()
    names = _names()
    found = names.get(name, "")
    while not found and (dot := name.find(".", 1)) >= 0:
        name = name[dot:]
        found = names.get(name, "")
    return found


@cache
def _names() -> dict[str, str]:
    """Whole names and their ends from a dot on, in lower case."""
    found: dict[str, str] = {}
    for language in _LANGUAGES:
        patterns = LEXERS[language][3] if language in LEXERS else ()
        for pattern in patterns:
            name = pattern.removeprefix("*").lower()
            if not set("*?[") & set(name):
                found.setdefault(name, language)
    return found
