"""The Dockerfile copies what is there; nothing builds it here."""

import re


def test_what_is_copied_exists_and_is_sent_to_the_builder(repository):
    dockerfile = (repository / "Dockerfile").read_text()
    sources = [
        source
        for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert "fgmm" in sources
    assert "constraints.txt" in sources
    sent = {
        line[1:]
        for line in (repository / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for source in sources:
        assert (repository / source).exists(), source
        assert source.partition("/")[0] in sent, source
