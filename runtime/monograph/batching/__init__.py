"""Token ids to padded batches of bounded cost."""

from monograph.batching.assemble import TokenBatch, assemble
from monograph.batching.distinct import distinct
from monograph.batching.plan import plan_batches
from monograph.batching.widths import rounded_up, widths_to
from monograph.batching.windows import windows

__all__ = ["TokenBatch", "assemble", "distinct", "plan_batches", "rounded_up", "widths_to", "windows"]
