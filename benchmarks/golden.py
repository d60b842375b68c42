"""Our networks against the numbers of the authors' and the article's code.

    python -m benchmarks.golden

For each file of golden numbers: the largest error of any tensor in it, relative to the tensor's
largest magnitude. The numbers were computed in float64.
"""

from collections.abc import Mapping

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import golden_numbers as golden


def error(answers: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """The largest error of all tensors."""
    return f"{max(golden.error(tensor, expected[key]) for key, tensor in answers.items()):.1e}"


def main() -> None:
    """Print the table."""
    table = Table("golden numbers", "tensors", "float32", "float64", box=MARKDOWN)
    for name in golden.NETWORKS:
        expected = golden.expected(name)
        errors = [
            error(golden.network_answers(name, dtype), expected)
            for dtype in (torch.float32, torch.float64)
        ]
        table.add_row(name, "logits, gates", *errors)
    expected = golden.expected(golden.ARTICLE)
    for case in golden.ARTICLE_CASES:
        answers = [golden.article_answers(case, dtype) for dtype in (torch.float32, torch.float64)]
        for tensor in answers[0]:
            errors = [error({tensor: answer[tensor]}, expected) for answer in answers]
            table.add_row(golden.ARTICLE, tensor, *errors)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
