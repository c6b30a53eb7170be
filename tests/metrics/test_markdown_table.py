"""Tables in Markdown, written out by hand."""

from cfworld.metrics.markdown_table import RIGHT, markdown_table


def test_a_table_has_heads_a_rule_and_its_rows():
    assert markdown_table(["", "mean"], [["world", "1.0"], ["twin", "2.0"]]) == [
        "|  | mean |",
        "|---|---|",
        "| world | 1.0 |",
        "| twin | 2.0 |",
    ]


def test_columns_of_numbers_stand_flush_right():
    assert markdown_table(["policy", "dream"], [["noop", "150"]], ["---", RIGHT]) == [
        "| policy | dream |",
        "| --- | ---: |",
        "| noop | 150 |",
    ]


def test_a_table_without_rows_is_its_heads():
    assert markdown_table(["a"], []) == ["| a |", "|---|"]
