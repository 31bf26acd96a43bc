"""Calls a slow tool with the plain Python MCP client, which knows no tasks. Prints what it saw as JSON.

usage: tasks_python.py URL TOOL ARGUMENTS
"""

import asyncio
import json
import sys

from mcp import Client


async def main(url: str, tool: str, arguments: dict) -> dict:
    async with Client(url) as client:
        result = await client.call_tool(tool, arguments)
        return {"structured": result.structured_content, "text": result.content[0].text, "is_error": result.is_error}


url, tool, arguments = sys.argv[1:]
print(json.dumps(asyncio.run(main(url, tool, json.loads(arguments)))))
