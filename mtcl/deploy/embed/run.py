"""All inputs of a run: which are done, which are left, and the settings that they share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtcl.deploy.embed.claims import claimed
from mtcl.deploy.embed.computing import Computer
from mtcl.deploy.embed.numbers import Ranges, sampled
from mtcl.deploy.embed.outputs import check_free
from mtcl.deploy.embed.progress import OnProgress
from mtcl.deploy.embed.rows import Window
from mtcl.deploy.embed.settings import PARTS, Settings, agree, check_same, read_settings, with_ranges
from mtcl.deploy.embed.shard_run import check_usable, embed_shard, first_window
from mtcl.deploy.embed.shards import Columns, Identity, Shard
from mtcl.deploy.embed.tokens import TokenProcess
from mtcl.deploy.embed.writing import ShardFiles, tidy
from mtcl.deploy.vectors import ShardRecord, record_file
from mtcl.errors import ConfigError, DataError

log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Done:
    """What a run did: inputs and rows it wrote, and inputs that were done before or that other processes work on."""

    shards: int = 0
    rows: int = 0
    bad: int = 0
    full: int = 0
    clipped: int = 0
    before: int = 0
    elsewhere: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Job:
    """Inputs to embed into a folder.

    Attributes:
        folder: Where vectors are written.
        shards: All inputs, also those that other processes embed; the ranges of int8 are computed from all of them.
        columns: The columns that are read.
        replace_changed: Embed inputs again that have changed since they were embedded, instead of refusing.
        tokenize_apart: Tokenise in another process.
        encoder: Where the encoder is, for the manifest.
    """

    folder: Path
    shards: tuple[Shard, ...]
    columns: Columns
    replace_changed: bool = False
    tokenize_apart: bool = True
    encoder: Path | None = None

    def agree(self, computer: Computer, settings: Settings) -> Settings:
        """The folder's settings: these, for int8 with ranges. Raises `ConfigError` if the folder has others, or
        files that vectors would replace.
        """
        check_free(self.folder, self.shards, settings.format)
        there = read_settings(self.folder)
        if there is not None:
            check_same(self.folder, there, settings)
            return there
        self._check_first(settings)
        if settings.dtype == "int8":
            settings = with_ranges(settings, ranges_of(self.shards, computer, self.columns))
        return agree(self.folder, settings, encoder=self.encoder)

    def _check_first(self, settings: Settings) -> None:
        """Read rows up to the first good one before the folder has settings: a misspelt column would be among them, and
        the command would be refused when it is given again. Raises `DataError` if no input begins with a good row.
        """
        bad: list[tuple[Shard, Window]] = []
        for shard in (one for one in self.shards if one.path is not None):
            window = first_window(shard, self.columns, settings.window)
            if window is not None and window.texts:
                return
            bad += [] if window is None else [(shard, window)]
        if bad:
            check_usable(*bad[0])

    def left(self, mine: Sequence[Shard]) -> list[Shard]:
        """The inputs of `mine` that are not done. Raises `DataError` for one that has changed since it was done."""
        found = [shard for shard in mine if not self._is_done(shard)]
        if (self.folder / PARTS).is_dir():
            for shard in set(mine) - set(found):
                tidy(self.folder, shard)
        return found

    def embed(self, left: Sequence[Shard], computer: Computer, settings: Settings, report: OnProgress) -> Done:
        """Embed inputs one by one: first those that no other process works on, then windows of the others."""
        total, identities = Done(), dict[str, Identity]()
        with TokenProcess(computer.encoder.tokenizer, settings.max_length, is_apart=self.tokenize_apart) as tokenizing:

            def embed_one(shard: Shard, *, is_first: bool) -> Done:
                if self._is_done(shard):
                    return Done()
                if shard.name not in identities:
                    identities[shard.name] = Identity.of(shard)
                files = ShardFiles(self.folder, shard, settings, identities[shard.name])
                record = embed_shard(files, computer, self.columns, tokenizing, report, is_first=is_first)
                if record is None:
                    return Done()
                _tell(record, shard)
                settings.numbers.warn_if_clipped(str(shard), record.clipped, record.rows)
                return Done(1, record.rows, record.bad, record.full, record.clipped)

            for shard in left:
                with claimed(self.folder, shard) as is_mine:
                    if is_mine:
                        total += embed_one(shard, is_first=True)
            for shard in left:
                if shard.path is not None:
                    total += embed_one(shard, is_first=False)
        return replace(total, elsewhere=len(left) - total.shards)

    def _is_done(self, shard: Shard) -> bool:
        record = ShardRecord.read(self.folder, shard.name)
        if record is None or not record.has_files(self.folder):
            return False
        if shard.path is None:
            raise ConfigError(f"{self.folder} already has vectors of a standard input: give another --out")
        if Identity(record.size, record.digest, record.modified_ns).still_holds(shard):
            return True
        if self.replace_changed:
            record_file(self.folder, shard.name).unlink(missing_ok=True)
            return False
        raise DataError(
            f"{shard} is not the file that {self.folder} has vectors of (then {record.source}, {record.size:,} bytes; "
            f"now {shard.size:,}): --replace_changed embeds it again, or give another --out"
        )


def ranges_of(shards: Sequence[Shard], computer: Computer, columns: Columns) -> Ranges:
    """The ranges of int8, from the first rows of inputs spread over all of them.

    They depend on the inputs only, so processes that embed different inputs find the same. Raises `DataError` if the
    inputs have too few texts.
    """
    files = [shard for shard in shards if shard.path is not None]
    if len(files) < len(shards):
        raise ConfigError("dtype int8 takes its ranges from a sample, which standard input cannot give: give files")
    chosen, num_rows = sampled(files)
    windows = [first_window(shard, columns, num_rows) for shard in chosen]
    texts = [text for window in windows if window is not None for text in window.texts]
    if not texts:
        raise DataError("dtype int8 takes its ranges from the first texts, and the inputs have none")
    log.info("taking the ranges of int8 from %s texts", f"{len(texts):,}")
    return Ranges.of_enough(computer.encode(texts))


def _tell(record: ShardRecord, shard: Shard) -> None:
    bad = f", {record.bad:,} bad rows in _bad/{record.name}.jsonl" if record.bad else ""
    level = logging.WARNING if record.bad and not record.rows else logging.INFO
    log.log(level, "%s: %s rows%s", shard, f"{record.rows:,}", bad)
