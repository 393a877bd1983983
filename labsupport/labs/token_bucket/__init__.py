"""06 Token bucket: tokens that rounding and clocks create and destroy."""

from labsupport.labs.token_bucket.bucket_limit import BucketLimit

__all__ = ["BucketLimit"]
