"""A device of the site as any OAuth client would be one: Authlib registers nothing by itself, so
registration is a plain POST (RFC 7591); everything after it is Authlib's own.

usage: authlib_client.py ISSUER BULK_TOKEN ROOT_PEM PACKAGE_URL
"""
import socket
import sys

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url

issuer, bulk, root, package = sys.argv[1:]

# The site system's name leads to this machine.
look_up = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: look_up(
    "127.0.0.1" if str(host).endswith(".contoso.com") else host, *more, **named
)

# RFC 8414: where everything is, and that it is what it says.
url = get_well_known_url(issuer, external=True)
found = requests.get(url, verify=root, timeout=30)
found.raise_for_status()
metadata = AuthorizationServerMetadata(found.json())
metadata.validate()
assert metadata["issuer"] == issuer, metadata["issuer"]

for kind, size in (("EC", "P-256"), ("RSA", 2048), ("OKP", "Ed25519"), ("EC", "P-384")):
    key = JsonWebKey.generate_key(kind, size, is_private=True)
    registration = requests.post(
        metadata["registration_endpoint"],
        headers={"Authorization": f"Bearer {bulk}"},
        json={
            "jwks": {"keys": [key.as_dict(is_private=False)]},
            "token_endpoint_auth_method": "private_key_jwt",
            "grant_types": ["client_credentials"],
            "client_name": f"authlib {kind}",
        },
        verify=root,
        timeout=30,
    )
    assert registration.status_code == 201, registration.text
    client_id = registration.json()["client_id"]

    algorithm = {"P-256": "ES256", 2048: "RS256", "Ed25519": "EdDSA", "P-384": "ES384"}[size]
    method = PrivateKeyJWT(metadata["token_endpoint"], alg=algorithm)
    session = OAuth2Session(
        client_id,
        key.as_pem(is_private=True).decode() if kind != "OKP" else key,
        token_endpoint_auth_method=method.name,
        revocation_endpoint_auth_method=method.name,
    )
    session.verify = root
    session.register_client_auth_method(method)
    token = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    assert token["token_type"] == "Bearer" and token["expires_in"] > 0, token

    # RFC 8693: a token that opens this package alone.
    content = session.fetch_token(
        metadata["token_endpoint"],
        grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token=token["access_token"],
        subject_token_type="urn:ietf:params:oauth:token-type:access_token",
        scope="package:PS100001",
    )
    assert content["issued_token_type"].endswith("access_token"), content
    session.token = content
    answer = session.get(package, timeout=30)
    assert answer.status_code == 200, (answer.status_code, answer.reason, answer.text)
    other = session.get(package.replace("PS100001", "PS100002"), timeout=30)
    assert other.status_code == 403 and other.json()["code"] == "token.scope", other.text

    # RFC 7009: what is not needed any more is given up.
    revoked = session.revoke_token(
        metadata["revocation_endpoint"], token=token["access_token"]
    )
    assert revoked.status_code == 200, revoked.text
    print(kind, size, client_id, len(answer.content))
