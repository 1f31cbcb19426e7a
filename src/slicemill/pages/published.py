"""What others have reported on the public data set, each with how it was measured."""

from __future__ import annotations

from dataclasses import dataclass

from slicemill.pages.sections.blocks import Block, TableBlock, TableColumn, words

#: How the public data set's scan folders begin.
PUBLIC_PREFIX = "TCGA_"


@dataclass(frozen=True)
class PublishedResult:
    """A number, what it is of, and what it may be compared with."""

    source: str
    number: str
    measured: str
    protocol: str
    comparable: str


PUBLISHED = (
    PublishedResult(
        "Buda, Saha, Mazurowski 2019",
        "0.82 to 0.836",
        "Dice of a patient's volume, mean (0.82 in the paper; 0.836, median 0.873, on the author's page)",
        "22-fold cross-validation of 110 patients, each scored by a model that never saw the patient",
        "mean patient Dice out of fold",
    ),
    PublishedResult(
        "Two experts, quoted by Buda",
        "0.84",
        "Dice between their masks (standard deviation 0.02)",
        "agreement of people on tumours of this kind, not on these scans",
        "mean patient Dice, as a measure of what is possible",
    ),
    PublishedResult(
        "fast.ai notebook (S1)",
        "0.868",
        "mean Dice of a slice, where an empty slice that is predicted empty counts 1",
        "one validation part of 15 scans (configs/splits/fastai-fifteen.txt)",
        "slice-mean Dice of those 15 scans",
    ),
    PublishedResult(
        "MONAI notebook (S2)",
        "0.839",
        "mean Dice of a slice, by the same rule",
        "the notebook's own validation part",
        "slice-mean Dice of validation",
    ),
    PublishedResult(
        "Classifiers (S3)",
        "97 %",
        "accuracy of slices, tumour or none",
        "a random split by slice: a model is trained on neighbours of its test slices, so the number leaks",
        "nothing out of fold; a cross-validation that leaks on purpose measures it",
    ),
)


def published_block() -> Block:
    """Published results as a table."""
    names = ("Source", "Result", "Of what", "Protocol", "Compare it with our")
    rows = tuple(
        tuple(
            words(text) for text in (each.source, each.number, each.measured, each.protocol, each.comparable)
        )
        for each in PUBLISHED
    )
    caption = "Published on this data set. Numbers of different protocols are not the same kind of number."
    return TableBlock("published", caption, tuple(TableColumn(name) for name in names), rows)
