"""Token ids to padded batches of bounded cost."""

from monograph.batching.assemble import TokenBatch, assemble
from monograph.batching.plan import plan_batches
from monograph.batching.windows import windows

__all__ = ["TokenBatch", "assemble", "plan_batches", "windows"]
