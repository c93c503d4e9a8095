"""Where the public files come from, how each is known to be whole, and whose work it is."""

from __future__ import annotations

import dataclasses

# The commit of google-research/distilling-step-by-step whose tree holds the zip.
_COMMIT = "ef944263c9ddfd40a9888557f3e7d17513fd1a7e"


@dataclasses.dataclass(frozen=True)
class DownloadSource:
    """A file that `distill data fetch` brings.

    Attributes:
      file: its name in the output folder, and on a mirror.
      url: its address.
      notice: where it comes from, its license, and who to cite.
      git_blob: its `distill.common.digests.git_blob`; "" where the file is in no repository.
    """

    file: str
    url: str
    notice: str
    git_blob: str = ""


RELEASED = DownloadSource(
    file="datasets.zip",
    url=f"https://github.com/google-research/distilling-step-by-step/raw/{_COMMIT}/datasets.zip",
    git_blob="fb9d88a0b44c2daac1ec1639f0bdae993e7e5bcd",
    notice="""\
datasets.zip: rows and completions of language models, released by the authors of
Distilling step-by-step, github.com/google-research/distilling-step-by-step, Apache-2.0.
The rows keep the licenses of their own authors: ANLI is CC BY-NC 4.0 (no commercial use),
SVAMP is MIT; for e-SNLI, CommonsenseQA, CoS-E and ASDiv see their authors' pages.
Cite: Hsieh et al. 2023, Distilling Step-by-Step!, Findings of ACL 2023, and what you use of:
e-SNLI (Camburu et al. 2018), ANLI (Nie et al. 2020), CommonsenseQA (Talmor et al. 2019),
CoS-E (Rajani et al. 2019), SVAMP (Patel et al. 2021), ASDiv (Miao et al. 2020).
""",
)
VOCABULARY = DownloadSource(
    file="cc_all.32000.100extra.model",
    url="https://storage.googleapis.com/t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model",
    notice="""\
cc_all.32000.100extra.model: the SentencePiece vocabulary of the public T5 checkpoints,
bucket t5-data of google-research/text-to-text-transfer-transformer, Apache-2.0.
Cite: Raffel et al. 2020, Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer, JMLR 21(140).
""",
)
SOURCES = (RELEASED, VOCABULARY)
