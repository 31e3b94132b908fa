from kubetfx.components.report import card
from tests.components.report import sample


def test_card_holds_what_was_said_and_what_was_measured() -> None:
    text = card.markdown(sample.facts(blessed=True))

    assert text.startswith("# Model card: sample")
    for expected in (
        "the team \\<team@example.org\\>",
        "- Not for people.",
        "Source: made up",
        "Pushed as version 1795000000",
        "Accuracy: 0.71, 95 % between 0.6637 and 0.7523.",
        "Measured: weakest by Accuracy where colour=red (0.6).",
        "## License",
    ):
        assert expected in text


def test_card_says_what_nobody_has_said() -> None:
    text = card.markdown(sample.regression_facts())

    assert "Not stated. It belongs in the config: card.purpose." in text
    assert "## License" not in text


def test_names_do_no_harm_in_markdown() -> None:
    assert "<script>" not in card.markdown(sample.facts())
