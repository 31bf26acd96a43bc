#!/usr/bin/env python3
"""Asks a model the questions of questions.toml, with Spanledger's MCP tools, and counts exact answers.

Any model behind an OpenAI-compatible chat completions interface (a vendor's, Ollama, vLLM, LiteLLM):

    spanledger demo --days 7 --end 2026-06-30
    export MODEL_API_KEY=…
    python3 tests/evaluations/with_model.py --model gpt-5-mini --api-base https://api.openai.com/v1

Needs Python 3.11 and nothing else. A question is right where every figure of its answer stands in the model's last
message, to the digits the model gave (three or more), or where it says what cannot be answered. Prints a line a
question and, at the end, how many were right, tool calls and tokens; `--report FILE` keeps it all as JSON. Ends with
1 where fewer than `--at-least` percent were right.
"""

import argparse
import decimal
import json
import os
import pathlib
import re
import sys
import tomllib
import urllib.error
import urllib.request

QUESTIONS = pathlib.Path(__file__).with_name("questions.toml")
PROTOCOL = "2026-07-28"
TURNS_MAX = 12
SYSTEM = (
    "You are a FinOps analyst. Answer from the tools only. The data is of 2026-06-23 to 2026-06-29 (UTC); without a "
    "period in the question, all of it is meant. End with one short answer that has every figure asked for, exactly "
    "as the tools give it."
)


def post(url, body, headers):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        sys.exit(f"{url} answered {error.code}: {error.read().decode()[:500]}")
    except urllib.error.URLError as error:
        sys.exit(f"{url} does not answer: {error.reason}")
    if text.startswith("{"):
        return json.loads(text)
    messages = [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:") and line[5:].strip()]
    return next(message for message in messages if "id" in message)


class Mcp:
    """A client of the 2026-07-28 revision: each request stands alone."""

    def __init__(self, url, token):
        self.url, self.token = url, token

    def ask(self, method, name=None, **parameters):
        parameters["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": PROTOCOL,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "spanledger-evaluations", "version": "1"},
        }
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": PROTOCOL, "mcp-method": method}
        if name:
            headers["mcp-name"] = parameters["name"] = name
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = post(self.url, body, headers)
        if "error" in answer:
            return {"isError": True, "content": [{"type": "text", "text": json.dumps(answer["error"])}]}
        return answer["result"]


class Model:
    """A model behind a chat completions interface."""

    def __init__(self, base, name, key):
        self.url, self.name, self.key = base.rstrip("/") + "/chat/completions", name, key
        self.tokens = {"prompt_tokens": 0, "completion_tokens": 0}

    def answer(self, messages, tools):
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        answer = post(self.url, {"model": self.name, "messages": messages, "tools": tools}, headers)
        for kind in self.tokens:
            self.tokens[kind] += (answer.get("usage") or {}).get(kind) or 0
        return answer["choices"][0]["message"]


def asked(question, model, mcp, instructions, tools):
    """The model's last message, and the tool calls it made."""
    messages = [{"role": "system", "content": f"{instructions}\n\n{SYSTEM}"}, {"role": "user", "content": question}]
    calls = []
    for _ in range(TURNS_MAX):
        message = model.answer(messages, tools)
        messages.append(message)
        if not message.get("tool_calls"):
            return message.get("content") or "", calls
        for call in message["tool_calls"]:
            function = call["function"]
            try:
                arguments = json.loads(function["arguments"] or "{}")
            except json.JSONDecodeError:
                arguments = {}
            calls.append({"tool": function["name"], "arguments": arguments})
            result = mcp.ask("tools/call", function["name"], arguments=arguments)
            text = "\n".join(part.get("text", "") for part in result["content"])
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    return "", calls


def numbers(text):
    """The decimals of a text, without thousands separators."""
    return [decimal.Decimal(found) for found in re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", text))]


def says(text, expected):
    """True where the text has the expected value: a figure to the digits given, or the words."""
    if isinstance(expected, bool) or expected is None:
        return True
    try:
        figure = decimal.Decimal(str(expected))
    except decimal.InvalidOperation:
        return str(expected).lower() in text.lower()
    for number in numbers(text):
        digits = -number.as_tuple().exponent
        is_exact = number == figure
        is_rounded = len(number.as_tuple().digits) >= 3 and number == round(figure, digits)
        if is_exact or is_rounded:
            return True
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080/mcp", help="the MCP endpoint (%(default)s)")
    parser.add_argument("--token", default=os.environ.get("SPANLEDGER_API_KEY"), help="API key or token of the endpoint")
    parser.add_argument("--api-base", default="https://api.openai.com/v1", help="chat completions interface (%(default)s)")
    parser.add_argument("--model", required=True)
    parser.add_argument("--only", help="ask only questions with this text in them")
    parser.add_argument("--report", type=pathlib.Path, help="write everything said to FILE, as JSON")
    parser.add_argument("--at-least", type=float, default=0, metavar="PERCENT")
    arguments = parser.parse_args()

    questions = tomllib.loads(QUESTIONS.read_text())["question"]
    if arguments.only:
        questions = [question for question in questions if arguments.only.lower() in question["ask"].lower()]
    if not questions:
        sys.exit(f"no question has {arguments.only!r} in it")
    mcp = Mcp(arguments.url, arguments.token)
    model = Model(arguments.api_base, arguments.model, os.environ.get("MODEL_API_KEY"))
    instructions = mcp.ask("server/discover").get("instructions", "")
    listed = mcp.ask("tools/list")["tools"]
    tools = [
        {"type": "function", "function": {"name": tool["name"], "description": tool["description"], "parameters": tool["inputSchema"]}}
        for tool in listed
    ]
    report, n_right, n_calls = [], 0, 0
    for question in questions:
        text, calls = asked(question["ask"], model, mcp, instructions, tools)
        missing = [answer["is"] for answer in question.get("answers", []) if not says(text, answer["is"])]
        is_right = bool(text) and not missing
        n_right, n_calls = n_right + is_right, n_calls + len(calls)
        print(f"{'right' if is_right else 'WRONG'}  {len(calls):2} calls  {question['ask']}", flush=True)
        for value in missing:
            print(f"       missing: {value}", flush=True)
        report.append({"ask": question["ask"], "right": is_right, "missing": missing, "calls": calls, "said": text})
    share = 100 * n_right / len(questions)
    print(
        f"{n_right} of {len(questions)} right ({share:.0f} %), {n_calls} tool calls, "
        f"{model.tokens['prompt_tokens']} input and {model.tokens['completion_tokens']} output tokens"
    )
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=2, ensure_ascii=False))
    sys.exit(0 if share >= arguments.at_least else 1)


if __name__ == "__main__":
    main()
