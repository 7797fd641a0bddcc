from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort import redaction
from bort.redaction import redact, redact_patterns, remember, secrets_in, secrets_of_environment


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://bort:hunter2@db:5432/optuna", "postgresql://bort:***@db:5432/optuna"),
        ("postgresql+psycopg://bort:hunter2@db/optuna?sslmode=require", "postgresql+psycopg://bort:***@db/optuna?sslmode=require"),
        ("two: http://a:hunter2@x/ and http://b:hunter2@y/.", "two: http://a:***@x/ and http://b:***@y/."),
        ("http://a:hunt@er2@x/y", "http://a:***@x/y"),
        ("postgresql://a:hunt/er2@x/y", "postgresql://a:***@x/y"),
        ("#0 : uri=http\\://bort\\:hunter2@x\\:9/y", "#0 : uri=http\\://bort\\:***@x\\:9/y"),
        ("http://:hunter2@x", "http://:***@x"),
        ("https://hunter2@x/y", "https://***@x/y"),
        ("postgresql://bort@db/optuna", "postgresql://bort@db/optuna"),
        ("http://127.0.0.1:5000/#/runs/a@b", "http://127.0.0.1:5000/#/runs/a@b"),
        ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
        ("host=db password='hunt er2' dbname=x", "host=db password=*** dbname=x"),
        ("postgresql://db/x?user=a&password=hunter2&sslpassword=hunter2", "postgresql://db/x?user=a&password=***&sslpassword=***"),
        ("POSTGRES_PASSWORD=hunter2 MLFLOW_TRACKING_TOKEN=hunter2", "POSTGRES_PASSWORD=*** MLFLOW_TRACKING_TOKEN=***"),
        ("{'user': 'a', 'password': 'hunt\\'er2'}", "{'user': 'a', 'password': '***'}"),
        ('{"secret": "hunter2", "n": 1}', '{"secret": "***", "n": 1}'),
        ("/x?access_token=hunter2&n=1 ?sig=hunter2", "/x?access_token=***&n=1 ?sig=***"),
        ("?X-Amz-Signature=hunter2&X-Amz-Security-Token=hunter2", "?X-Amz-Signature=***&X-Amz-Security-Token=***"),
        (
            '{"api_key":"hunter2","x":"{\\"access_token\\": \\"hunter2\\"}"}',
            '{"api_key":"***","x":"{\\"access_token\\": \\"***\\"}"}',
        ),
        ("'Authorization': 'Bearer hunter2', 'n': 1", "'Authorization': 'Bearer ***', 'n': 1"),
        ("Authorization: Basic aHVudGVyMg==", "Authorization: Basic ***"),
        ("sent Bearer hunter2-hunter2 on", "sent Bearer *** on"),
        ("storage:\n  password: hunt er2\n  user: a", "storage:\n  password: ***\n  user: a"),
        ("http://a:hunt er2@x/y", "http://a:***@x/y"),
        ("http://a:54321@x/y", "http://a:***@x/y"),
        ("http://127.0.0.1:5000, written by a@b", "http://127.0.0.1:5000, written by a@b"),
        ("a basic wikitext-103 run", "a basic wikitext-103 run"),
        ("a basic example of bearer tokens: 12", "a basic example of bearer tokens: 12"),
        ("tokens=4096 pad_token=[PAD] max_tokens: 3", "tokens=4096 pad_token=[PAD] max_tokens: 3"),
    ],
)
def test_passwords_are_struck_out_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@given(st.text(st.characters(exclude_categories=("Cs", "Z", "Cc"), exclude_characters="@"), min_size=1))
def test_no_password_of_an_address_is_left(password: str) -> None:
    # Digits alone before a slash are read as a port: nothing tells them apart.
    shown = redact(f"postgresql://bort:x{password}@db/optuna")
    assert shown == "postgresql://bort:***@db/optuna"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", {})


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("shown", ["hunt er/2", "hunt%20er%2F2", "hunt%20er/2", "hunt+er%2F2"])
def test_known_secret_is_redacted_in_every_spelling(shown: str) -> None:
    remember(secrets_in({"tracking": {"uri": "http://bort:hunt%20er%2F2@127.0.0.1:9"}}))
    assert redact(f"any text: {shown}.") == "any text: ***."
    assert redact_patterns(f"any text: {shown}.") == f"any text: {shown}."


@pytest.mark.usefixtures("forgetful")
def test_known_word_is_redacted_as_a_word_alone() -> None:
    remember(["postgres", "short"])
    assert redact("postgresql and postgres are short") == "postgresql and *** are short"


def test_environment_holds_secrets_by_name_and_in_addresses() -> None:
    environment = {
        "PGPASSWORD": "first-one",
        "HF_TOKEN": "second-one",
        "BORT_STORAGE_URL": "postgresql://bort:third-one@db/x",
        "PWD": "/home/user",
        "TOKENIZERS_PARALLELISM": "false",
    }
    assert secrets_of_environment(environment) == {"first-one", "second-one", "third-one"}


@pytest.mark.parametrize("text", ["a" * 200_000, "a-" * 100_000, "password:" * 20_000, "http://a:" * 10_000])
def test_long_line_is_redacted_in_linear_time(text: str) -> None:
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 5
