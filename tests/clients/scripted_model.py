"""A model for the tests: a chat completions interface on loopback that makes the calls of questions.toml.

`scripted_model.py QUESTIONS [wrong]` prints its port. It makes each call of the question in turn, filling in what
earlier answers said, and then says the expected figures; with `wrong`, other ones.
"""

import http.server
import json
import sys
import tomllib

QUESTIONS = {
    question["ask"]: question for question in tomllib.load(open(sys.argv[1], "rb"))["question"]
}
IS_WRONG = "wrong" in sys.argv[2:]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        messages = asked["messages"]
        question = QUESTIONS[next(message["content"] for message in messages if message["role"] == "user")]
        n_done = sum(message["role"] == "tool" for message in messages)
        names = {tool["function"]["name"] for tool in asked["tools"]}
        # Later calls of a question name places in earlier answers, which only structured content has.
        calls = [call for call in question["calls"] if "$" not in json.dumps(call.get("arguments", {}))]
        if n_done < len(calls):
            call = calls[n_done]
            assert call["tool"] in names, call
            function = {"name": call["tool"], "arguments": json.dumps(call.get("arguments", {}))}
            message = {"role": "assistant", "tool_calls": [{"id": f"call_{n_done}", "type": "function", "function": function}]}
        else:
            answers = [str(answer["is"]) for answer in question.get("answers", [])]
            message = {"role": "assistant", "content": "I cannot say." if IS_WRONG else "Answer: " + ", ".join(answers)}
        body = json.dumps({"choices": [{"message": message}], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
