# SPDX-License-Identifier: MIT
"""Reads a table of predictions or of reference values, strictly.

A table is a dict: id -> (line, value, ...), the values in the order of the columns asked for. Every
fault is a BadTable whose text is one sentence with the file and, where there is one, the line.
"""

import csv
import io
import json
import os
import stat

FILE_MAX = 64 << 20
ROWS_MAX = 2_000_000
ID_MAX = 200


class BadTable(Exception):
    """What is wrong with a file, in one sentence."""


def quoted(value):
    """A value from a foreign file, fit for an error sentence: escaped and cut."""
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_text(path, name):
    """The file's text; only a regular file of a sane size, and only UTF-8."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as e:
        raise BadTable(f"{name}: cannot be opened: {e.strerror}") from e
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise BadTable(f"{name}: is not a regular file")
        if st.st_size > FILE_MAX:
            raise BadTable(f"{name}: has {st.st_size} bytes, more than the {FILE_MAX} allowed")
        with open(fd, "rb", closefd=False) as f:
            raw = f.read(FILE_MAX)
    finally:
        os.close(fd)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        # e.object lacks the byte order mark, so lines are counted there, not in raw
        line = e.object.count(b"\n", 0, e.start) + 1
        byte = e.object[e.start]
        raise BadTable(f"{name}: line {line}: is not UTF-8 text (byte 0x{byte:02x})") from e
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadTable(f"{name}: line {line}: has a NUL byte; is this UTF-16?")
    return text


def unique_keys(pairs):
    """object_pairs_hook that refuses {"a": 1, "a": 2}."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [k for k, _ in pairs]
        twice = next(k for k in keys if keys.count(k) > 1)
        raise ValueError(f"key {quoted(twice)} is given twice")
    return found


def refuse_constant(word):
    raise ValueError(f"{word} is not a number that can be compared")


def json_rows(text, name):
    """Yields (line, row) of a JSON-lines text. Lines end with a line feed and with nothing else."""
    for line, record in enumerate(text.split("\n"), 1):
        if not record.strip():
            continue
        try:
            row = json.loads(record, object_pairs_hook=unique_keys, parse_constant=refuse_constant)
        except (ValueError, RecursionError) as e:
            what = e.msg if isinstance(e, json.JSONDecodeError) else str(e)
            raise BadTable(f"{name}: line {line}: {what}") from e
        if not isinstance(row, dict):
            raise BadTable(f"{name}: line {line}: is not a JSON object")
        yield line, row


def csv_header(reader, name):
    header = next(reader, None)
    if not header:
        raise BadTable(f"{name}: is empty; the first line must name the columns")
    for i, column in enumerate(header):
        if column in header[:i]:
            raise BadTable(f"{name}: line 1: column {quoted(column)} is named twice")
    return header


def csv_rows(text, name):
    """Yields (line, row) of a CSV text with a header line."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = csv_header(reader, name)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                where = f"{name}: line {reader.line_num}"
                raise BadTable(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            yield reader.line_num, dict(zip(header, cells))
    except csv.Error as e:
        raise BadTable(f"{name}: line {reader.line_num}: {e}") from e


def row_id(row, column, where):
    if column not in row:
        have = ", ".join(quoted(c) for c in list(row)[:8]) or "no column at all"
        raise BadTable(f"{where}: no column {quoted(column)}; there is {have}")
    found = row[column]
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise BadTable(f"{where}: the id {quoted(found)} is neither text nor a whole number")
    found = str(found)
    if not found or len(found) > ID_MAX:
        raise BadTable(f"{where}: the id is empty or longer than {ID_MAX} characters")
    return found


def read_table(path, id_column, columns, name, known=None):
    """Reads `path`, .csv or .jsonl.

    With `known` only its ids may occur, so that a table of strangers ends at its first row.
    """
    rows = json_rows if path.endswith(".jsonl") else csv_rows
    table = {}
    for line, row in rows(read_text(path, name), name):
        where = f"{name}: line {line}"
        key = row_id(row, id_column, where)
        if known is not None and key not in known:
            raise BadTable(f"{where}: the id {quoted(key)} is not in the reference set")
        if key in table:
            raise BadTable(f"{where}: the id {quoted(key)} was given in line {table[key][0]} already")
        for column in columns:
            if column not in row:
                raise BadTable(f"{where}: no column {quoted(column)} for the id {quoted(key)}")
        if len(table) >= ROWS_MAX:
            raise BadTable(f"{where}: more than {ROWS_MAX} rows")
        table[key] = (line, *(row[column] for column in columns))
    if not table:
        raise BadTable(f"{name}: has no rows")
    return table


def find_predictions(folder, stem):
    """The one file `stem`.csv or `stem`.jsonl in the submission."""
    found = [n for n in (f"{stem}.csv", f"{stem}.jsonl") if os.path.lexists(os.path.join(folder, n))]
    if not found:
        raise BadTable(f"the submission has neither {stem}.csv nor {stem}.jsonl")
    if len(found) > 1:
        raise BadTable(f"the submission has both {found[0]} and {found[1]}; leave one of them out")
    return os.path.join(folder, found[0])


def check_complete(predicted, reference, name):
    missing = [k for k in reference if k not in predicted]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadTable(f"{name}: no prediction for the id {quoted(missing[0])}{more}")
