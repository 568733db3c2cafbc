"""Communication with a notebook kernel."""

from __future__ import annotations


def reply_to(client, asked: str) -> dict:
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == asked:
            return reply
