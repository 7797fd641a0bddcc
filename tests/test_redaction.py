from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.redaction import redact


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
