"""What happens in Redis all at once, as Lua scripts; imported by everything that changes jobs or batches."""
