"""An authorization server by the Python `mcp` package that takes ID-JAGs: SEP-990, second leg.

Usage: oauth_id_jag_server.py FOLDER TASK, where TASK is a JSON object:
  idp      the identity provider whose assertions are believed
  secrets  {client id: secret}
FOLDER/id-jag.json appears when it is ready: {"issuer", "jwks"}. It ends with its standard input.

The package does the HTTP, the metadata, the client's authentication and the grant; what it leaves to its user is
here: the checks of an assertion (RFC 7523, section 3; SEP-990, section 5.1) and the access token (RFC 9068).
"""

import asyncio
import json
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from mcp.server.auth.provider import OAuthAuthorizationServerProvider, TokenError
from mcp.server.auth.routes import create_auth_routes
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_TTL_S = 300
folder, task = Path(sys.argv[1]), json.loads(sys.argv[2])

listener = socket.create_server(("127.0.0.1", 0))
# as the package writes it into its metadata: with a slash at the end
issuer = str(AnyHttpUrl(f"http://127.0.0.1:{listener.getsockname()[1]}"))
key = ec.generate_private_key(ec.SECP256R1())
published = {
    **json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())),
    "kid": "of-python",
    "alg": "ES256",
    "use": "sig",
}
idp_keys = jwt.PyJWKClient(f"{task['idp']}/jwks")


class Provider(OAuthAuthorizationServerProvider):
    def __init__(self):
        self.spent = set()

    async def get_client(self, client_id):
        if client_id not in task["secrets"]:
            return None
        return OAuthClientInformationFull(
            client_id=client_id,
            client_secret=task["secrets"][client_id],
            redirect_uris=None,
            grant_types=[JWT_BEARER],
            token_endpoint_auth_method="client_secret_post",
        )

    async def exchange_identity_assertion(self, client, params):
        try:
            if jwt.get_unverified_header(params.assertion).get("typ") != "oauth-id-jag+jwt":
                raise TokenError("invalid_grant", "the assertion is no ID-JAG")
            signer = await asyncio.to_thread(idp_keys.get_signing_key_from_jwt, params.assertion)
            said = jwt.decode(
                params.assertion,
                signer.key,
                algorithms=["ES256"],
                audience=issuer,
                issuer=task["idp"],
                options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"]},
            )
        except jwt.PyJWTError as error:
            raise TokenError("invalid_grant", str(error)) from error
        if said.get("client_id") != client.client_id:
            raise TokenError("invalid_grant", "the assertion is for another client")
        if said["jti"] in self.spent:
            raise TokenError("invalid_grant", "the assertion was used before")
        self.spent.add(said["jti"])
        if params.resource and params.resource != said["resource"]:
            raise TokenError("invalid_target", "the assertion is for another resource")
        allowed = said["scope"].split()
        scope = " ".join(name for name in params.scopes or allowed if name in allowed)
        now = int(time.time())
        claims = {
            "iss": issuer,
            "sub": said["sub"],
            "aud": said["resource"],
            "client_id": client.client_id,
            "scope": scope,
            "iat": now,
            "exp": now + TOKEN_TTL_S,
            "jti": secrets.token_urlsafe(16),
            "tenant": "other" if said["sub"].startswith("other-") else "acme",
        }
        token = jwt.encode(claims, key, algorithm="ES256", headers={"typ": "at+jwt", "kid": published["kid"]})
        return OAuthToken(access_token=token, token_type="Bearer", expires_in=TOKEN_TTL_S, scope=scope)


async def jwks(_request):
    return JSONResponse({"keys": [published]})


app = Starlette(
    routes=[
        *create_auth_routes(Provider(), AnyHttpUrl(issuer), identity_assertion_enabled=True),
        Route("/jwks", jwks),
    ]
)


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()
# connections wait in the listener until the server takes them
(folder / "id-jag.json.new").write_text(json.dumps({"issuer": issuer, "jwks": f"{issuer}jwks"}))
(folder / "id-jag.json.new").rename(folder / "id-jag.json")
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
