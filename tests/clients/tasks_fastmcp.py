"""Drives tasks with FastMCP's client: transparently, by handle, and a cancelled one. Prints what it saw as JSON.

usage: tasks_fastmcp.py URL TOOL ARGUMENTS ENDLESS_SQL
"""

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp_tasks import call_tool_task


async def main(url: str, tool: str, arguments: dict, endless: str) -> dict:
    async with Client(url) as client:
        transparent = await client.call_tool(tool, arguments)
        task = await call_tool_task(client, tool, arguments)
        created = task.create_result
        first = await task.status()
        waited = await task.wait()
        result = await task.result()
        unwanted = await call_tool_task(client, "run_sql", {"query": endless})
        running = await unwanted.status()
        await unwanted.cancel()
        cancelled = await unwanted.wait()
        return {
            "transparent": transparent.structured_content,
            "created": created.status,
            "first": first.status,
            "waited": waited.status,
            "result": result.structured_content,
            "running": running.status,
            "cancelled": cancelled.status,
        }


url, tool, arguments, endless = sys.argv[1:]
print(json.dumps(asyncio.run(main(url, tool, json.loads(arguments), endless))))
