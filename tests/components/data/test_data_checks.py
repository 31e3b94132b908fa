"""What is said of rows: copies on both sides of a split, groups, and how much of the label the features leave open."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubetfx.components.data import block_work, data_checks, leakage, row_copies
from kubetfx.components.data.example_parts import Part
from kubetfx.components.data.row_splits import RowSplits
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.components.data.table_scan import scan
from kubetfx.config.data_section import Splits
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import Column
from kubetfx.models.examples import row_groups
from kubetfx.models.features import TEXT, Features

DRAWN = np.random.default_rng(0)
FRACTIONS = {"train": 700, "validation": 100, "eval": 200}
TITANIC = """
1st m adult 118 57 / 1st m child 0 5 / 1st f adult 4 140 / 1st f child 0 1 / 2nd m adult 154 14 / 2nd m child 0 11
2nd f adult 13 80 / 2nd f child 0 13 / 3rd m adult 387 75 / 3rd m child 35 13 / 3rd f adult 89 76 / 3rd f child 17 14
crew m adult 670 192 / crew f adult 3 20"""
"""Class, sex, age, and how many died and survived: Dawson, "The Unusual Episode Data Revisited", 1995."""
KINDS = [(*row.split()[:3], *map(int, row.split()[3:])) for row in TITANIC.strip().replace("\n", " / ").split(" / ")]


def titanic() -> pa.Table:
    rows = [
        {"class": cabin, "sex": sex, "age": age, "y": label}
        for cabin, sex, age, died, survived in KINDS
        for label in ["no"] * died + ["yes"] * survived
    ]
    return pa.Table.from_pylist([rows[index] for index in DRAWN.permutation(len(rows))])


def measured(rows: int) -> pa.Table:
    first, second = DRAWN.normal(size=rows), DRAWN.normal(size=rows)
    label = np.where(first + second + DRAWN.normal(size=rows) > 0, "yes", "no")
    return pa.table({"first": first, "second": second, "kind": DRAWN.choice(["a", "b"], rows), "y": label})


def profile_of(table: pa.Table) -> TableProfile:
    return scan(table.to_batches, "table", names=table.schema.names, stated={})


def profile_with(picture: str, table: pa.Table) -> TableProfile:
    others = profile_of(table.drop([picture]))
    column = ColumnProfile(picture, "string", table.num_rows, picture_reason="as configured")
    return replace(others, columns=(*others.columns, column))


def split(folder: Path, table: pa.Table, **config) -> list[Part]:
    """The rows in files of the splits, as ExampleGen writes them."""
    rule = RowSplits(Splits.model_validate(config), np.cumsum(list(FRACTIONS.values())).tolist(), list(FRACTIONS))
    (block,) = table.combine_chunks().to_batches()
    indices = rule.split(block, file="table")
    parts = []
    for index, name in enumerate(FRACTIONS):
        file = str(folder / f"{name}.parquet")
        pq.write_table(table.filter(pa.array(indices == index)), file, row_group_size=500)
        parts += [Part(name, number, group) for number, (group, _) in enumerate(row_groups([file]))]
    return parts


def check(
    folder: Path,
    table: pa.Table,
    *,
    picture: str | None = None,
    text: str | None = None,
    copies_together: str | None = None,
    **config,
) -> data_checks.Checks:
    features = [Column(name, "string", False) for name in table.schema.names if name not in ("y", text)]
    by_type = {"vocabulary": tuple(features)} | ({TEXT: (Column(text, "string", False),)} if text else {})
    classes = tuple(sorted(set(table["y"].to_pylist()))) if pa.types.is_string(table["y"].type) else ()
    return data_checks.check(
        split(folder, table, **config),
        Features("y", classes, by_type, {}),
        replace(
            profile_of(table) if picture is None else profile_with(picture, table), copies_together=copies_together
        ),
        run=lambda work, parts: block_work.run_here(work, parts, threads=2),
    )


def leaks(checks: data_checks.Checks) -> list[tuple[str, str | None]]:
    return [(finding.split, finding.column) for finding in checks.findings if finding.is_leak]


def test_titanic_is_split_as_asked_and_its_equal_rows_are_no_copies(tmp_path):
    checks = check(tmp_path, titanic())
    rows = {name: pq.read_metadata(tmp_path / f"{name}.parquet").num_rows for name in FRACTIONS}
    assert sum(rows.values()) == 2_201
    for name, share in {"train": 0.7, "validation": 0.1, "eval": 0.2}.items():
        assert abs(rows[name] - share * 2_201) < 3.3 * np.sqrt(2_201 * share * (1 - share))
    assert checks.findings == []


def test_titanic_has_a_ceiling(tmp_path):
    """No model of class, sex and age is right for more rows than the likelier fate of each kind has."""
    noise = check(tmp_path, titanic()).noise
    mixed = sum(died + survived for *_, died, survived in KINDS if died and survived)
    assert (noise.rows, noise.total_rows) == (mixed, 2_201)
    assert noise.ceiling == pytest.approx(sum(max(died, survived) for *_, died, survived in KINDS) / 2_201)


def test_copy_of_the_label_in_a_table_of_few_kinds_of_rows_is_a_leak(tmp_path):
    table = titanic()
    saved = pa.array([{"no": 0, "yes": 1}[label] for label in table["y"].to_pylist()])
    (finding,) = check(tmp_path, table.append_column("saved", saved)).findings
    assert finding.description == (
        "'saved' alone predicts 100.0% of the labels, of which guessing finds 67.4% (1,515 rows). Leave out what "
        "is not yet known at prediction time, data.drop: [saved]; or let it pass, "
        "validation.features: {saved: ignore}."
    )


def test_ceiling_of_amounts_is_the_variance_that_groups_explain(tmp_path):
    kinds, amounts = DRAWN.integers(0, 30, 900), DRAWN.normal(size=900)
    noise = check(tmp_path, pa.table({"kind": [f"k{kind}" for kind in kinds], "y": amounts})).noise
    within = sum(((amounts[kinds == kind] - amounts[kinds == kind].mean()) ** 2).sum() for kind in range(30))
    assert noise.rows == 900
    assert noise.ceiling == pytest.approx(1 - within / ((amounts - amounts.mean()) ** 2).sum())


def test_rows_that_all_differ_have_no_ceiling(tmp_path):
    assert check(tmp_path, measured(300)).noise == row_copies.LabelNoise(0, 300, 1.0)


def test_doubled_rows_are_copies_until_the_remedy_is_followed(tmp_path):
    table = measured(1_000)
    doubled = pa.concat_tables([table, table])
    checks = check(tmp_path, doubled)
    assert leaks(checks) == [("validation", None), ("eval", None)]
    assert "data.splits: {key: [first, second, kind]}" in checks.findings[-1].description
    assert leaks(check(tmp_path, doubled, key=["first", "second", "kind"])) == []
    assert leaks(check(tmp_path, table)) == []


def test_oversampled_class_is_copies(tmp_path):
    table = measured(1_000)
    frequent = pa.concat_tables(
        [table, *[table.filter(pa.array([label == "yes" for label in table["y"].to_pylist()]))] * 4]
    )
    assert leaks(check(tmp_path, frequent)) == [("validation", None), ("eval", None)]


def test_of_many_columns_those_with_the_most_values_are_read_first(tmp_path, monkeypatch):
    table = measured(1_000)
    monkeypatch.setattr(row_copies, "MAX_CELLS", 1_000)
    read: list[list[str]] = []
    blocks = row_copies.ReadKeys.blocks
    monkeypatch.setattr(
        row_copies.ReadKeys, "blocks", lambda self, item: read.append(list(self.columns)) or blocks(self, item)
    )
    assert check(tmp_path, table).noise == row_copies.LabelNoise(0, 1_000, 1.0)
    assert {tuple(columns) for columns in read} == {("first",)}
    assert leaks(check(tmp_path, pa.concat_tables([table, table]))) == [("validation", None), ("eval", None)]
    assert {tuple(columns) for columns in read} == {("first",), ("first", "kind", "second")}


def test_of_many_rows_some_keys_are_kept_with_all_of_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(row_copies, "MAX_KEYS", 500)
    table = measured(1_000)
    doubled = check(tmp_path, pa.concat_tables([table, table]))
    assert leaks(doubled) == [("validation", None), ("eval", None)]
    assert doubled.findings[-1].description.startswith("About ")
    assert 400 < doubled.noise.total_rows < 600


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("name", ["customer_id", "customer", "phone"])
def test_groups_on_both_sides_are_a_leak_where_they_tell_the_label(tmp_path, name, told):
    table = measured(900)
    customers = DRAWN.permutation(np.repeat(np.arange(225) * 17, 4))
    of_customer = DRAWN.choice(["no", "yes"], 225)[customers // 17]
    labels = of_customer if told else table["y"].to_numpy(zero_copy_only=False)
    cells = [f"+49 {customer}" for customer in customers] if name == "phone" else customers
    table = table.drop(["y"]).append_column(name, pa.array(cells)).append_column("y", pa.array(labels))
    found = check(tmp_path, table)
    assert leaks(found) == ([("validation", name), ("eval", name)] if told else [])
    if told:
        assert f"data.splits: {{by: group, column: {name}}}" in found.findings[-1].description
        assert leaks(check(tmp_path, table, by="group", column=name)) == []


def test_groups_of_many_rows_are_found_though_only_some_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(leakage, "MAX_ROWS", 600)
    table = measured(4_000)
    customers = DRAWN.permutation(np.repeat(np.arange(1_000), 4))
    labels = DRAWN.choice(["no", "yes"], 1_000)[customers]
    table = table.drop(["y"]).append_column("customer", pa.array(customers)).append_column("y", pa.array(labels))
    assert leaks(check(tmp_path, table)) == [("validation", "customer"), ("eval", "customer")]


def test_amounts_and_categories_that_tell_the_label_are_no_groups(tmp_path):
    square_feet = DRAWN.integers(500, 900, 900)
    city = DRAWN.integers(0, 60, 900)
    prices = square_feet + DRAWN.normal(0, 40, 900) + DRAWN.normal(0, 100, 60)[city]
    table = measured(900).drop(["y"]).append_column("area", pa.array(square_feet))
    table = table.append_column("city", pa.array([f"city {one}" for one in city])).append_column("y", pa.array(prices))
    assert leaks(check(tmp_path, table)) == []


def test_dates_that_order_the_label_are_a_leak(tmp_path):
    table = measured(900)
    days = [f"{1 + row % 28}.{1 + row // 28 % 12}.{2000 + row // 336}" for row in range(900)]
    labels = ["no" if row < 450 else "yes" for row in range(900)]
    table = table.drop(["y"]).append_column("day", pa.array(days)).append_column("y", pa.array(labels))
    found = check(tmp_path, table)
    assert leaks(found) == [("train", "day")]
    assert "'day' alone predicts 100.0% of the labels" in found.findings[-1].description
    shuffled = table.set_column(3, "day", pa.array(DRAWN.permutation(days)))
    assert leaks(check(tmp_path, shuffled)) == []


def test_pictures_that_come_again_are_a_leak_and_a_placeholder_is_none(tmp_path):
    table = measured(600)
    pictures = [f"picture {row // 2}".encode() if row < 400 else b"none" for row in range(600)]
    table = table.append_column("photo", pa.array(pictures))
    found = check(tmp_path, table, picture="photo")
    assert leaks(found) == [("validation", "photo"), ("eval", "photo")]
    assert "data.splits: {by: group, column: photo}" in found.findings[-1].description
    alone = [str(row).encode() if row < 400 else b"none" for row in range(600)]
    assert leaks(check(tmp_path, table.set_column(4, "photo", pa.array(alone)), picture="photo")) == []


def test_missing_class_of_a_split_is_said(tmp_path):
    table = measured(300).append_column("split", pa.array(["train"] * 200 + ["valid"] * 50 + ["test"] * 50))
    labels = ["no", "yes"] * 125 + ["no"] * 50
    table = table.drop(["y"]).append_column("y", pa.array(labels))
    found = [finding for finding in check(tmp_path, table, column="split").findings if finding.split == "eval"]
    assert [(finding.column, finding.title) for finding in found] == [("y", "Classes of a split")]
    assert found[0].description.startswith(
        "It has no row of the class 'yes'. "
        "It has unusual shares of classes: 'no' is 100.0% of its rows and 58.3% of all"
    )


def test_key_of_a_row_does_not_depend_on_its_block():
    table = pa.RecordBatch.from_pydict(
        {"number": [1.5, None, -0.0, 0.0], "whole": [1, None, 0, 0], "text": ["b", None, "a", "a"]}
    )
    keys = row_copies.row_keys(table)
    assert list(keys) == [row_copies.row_keys(table.slice(row, 1))[0] for row in range(4)]
    assert len(set(keys)) == 3  # 0 is -0
    first, second = (row_copies.row_keys(table.select(names)) for names in (["whole", "number"], ["number", "whole"]))
    assert first[0] != second[0]


def test_texts_of_training_rows_in_another_split_are_a_leak_that_splitting_by_row_closes(tmp_path):
    table = measured(300)
    texts = [" ".join(DRAWN.choice([f"word{chr(97 + i)}{chr(97 + j)}" for i in range(9) for j in range(9)], 12))
             for _ in range(250)]  # fmt: skip
    texts += [f"{text.upper()}!" for text in texts[:50]]
    table = table.append_column("text", pa.array(texts))

    found = {one.split: one for one in check(tmp_path, table, text="text", key=["first"]).findings if one.is_leak}

    finding = found["eval"]
    assert {one.column for one in found.values()} == {"text"}
    assert "rows (" in finding.description
    assert "have the 'text' of a training row, or nearly so" in finding.description
    assert "validation.features: {text: ignore}" in finding.description
    others = table.slice(0, 250)
    assert leaks(check(tmp_path, others, text="text", key=["first"])) == []


def test_near_copies_that_examplegen_put_together_are_not_searched_again(tmp_path, monkeypatch):
    searched = []
    monkeypatch.setattr(data_checks, "_of_texts", lambda name, *_, **__: searched.append(name) or [])
    table = measured(300)
    table = table.append_column("text", pa.array([f"the text {'abcdefghij'[i % 10]} of row {i}" for i in range(300)]))

    for together in ("text", "another", None):
        check(tmp_path, table, text="text", copies_together=together)

    assert searched == ["text", "text"]
