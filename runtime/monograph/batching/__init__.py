"""Token ids to padded batches of bounded cost."""

from monograph.batching.assemble import TokenBatch, assemble, assemble_one
from monograph.batching.distinct import distinct
from monograph.batching.plan import plan_batches, price
from monograph.batching.widths import rounded_up, widths_to
from monograph.batching.windows import windows

__all__ = [
    "TokenBatch",
    "assemble",
    "assemble_one",
    "distinct",
    "plan_batches",
    "price",
    "rounded_up",
    "widths_to",
    "windows",
]
