"""Token ids to padded batches of bounded cost."""

from monograph.batching.assemble import TokenBatch, assemble
from monograph.batching.plan import DEFAULT_TOKENS_PER_BATCH, plan_batches
from monograph.batching.windows import windows

__all__ = ["DEFAULT_TOKENS_PER_BATCH", "TokenBatch", "assemble", "plan_batches", "windows"]
