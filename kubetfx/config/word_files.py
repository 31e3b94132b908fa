"""Files of words: each line has a word and its replacements, separated by tabs."""

from pathlib import Path

from kubetfx.errors import ConfigError


def read_words(file: str, *, key: str) -> dict[str, tuple[str, ...]]:
    """Read a file of words.

    Args:
        file: UTF-8; empty lines, and those that begin with #, are left out.
        key: The key of the config that names it.

    Returns:
        The replacements by word.

    Raises:
        ConfigError: it cannot be read, has no words, a line has no tab, or a word comes twice.
    """
    try:
        if Path(file).exists() and not Path(file).is_file():  # nothing may ever write to a pipe
            raise OSError("it is not a regular file")
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")  # U+2028 and form feeds end no line
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{key}: the file of words cannot be read. Received: {file}: {error}. Give a file in UTF-8."
        ) from None
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        word, *others = (part.strip() for part in line.split("\t"))
        if not word or not any(others) or word in found:
            wrong = "its first word is a duplicate" if word in found else "it has no tab between two words"
            raise ConfigError(f"{key}: line {number} of {file} cannot be read, since {wrong}. Received: {line!r}.")
        found[word] = tuple(filter(None, others))
    if not found:
        raise ConfigError(
            f"{key}: the file has no words. Received: {file}, with {len(lines)} lines that are empty or begin with #. "
            "Write a word and its replacement on a line, with a tab between them, or leave the file out."
        )
    return found
