"""What tests share: stand-ins, servers, processes, and ways to wait for a condition."""
