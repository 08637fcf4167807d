"""Tables."""


def table(heading: list[str], rows: list[list[str]]) -> str:
    """The first column is text, the others are figures. Padded, so that it reads as plain text too."""
    widths = [max(len(row[i]) for row in [heading, *rows]) for i in range(len(heading))]

    def line(cells: list[str]) -> str:
        padded = [cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(cells, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([line(heading), line(rule), *(line(row) for row in rows)]) + "\n"
