"""Microsoft Entra ID for service principals and managed identities, and the rights of each.

Tokens expire in real time, no matter which clock the vaults use, because the credentials that cache them
use the real clock, too.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from azure_backup_emulator.bodies.times import moment
from azure_backup_emulator.model.jobs import Json
from azure_backup_emulator.model.store import Store
from azure_backup_emulator.model.world import RefusalError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

AUDIENCES = (
    "https://management.azure.com",
    "https://management.sovcloud-api.fr",
    "https://management.core.windows.net",
    "https://management.usgovcloudapi.net",
    "https://management.core.usgovcloudapi.net",
    "https://management.chinacloudapi.cn",
    "https://management.core.chinacloudapi.cn",
)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Someone who can sign in. ``actions`` may hold ``*`` as Azure's role definitions do."""

    name: str
    client_id: str
    secret: str
    actions: Sequence[str]

    @property
    def object_id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self.client_id))

    def may(self, action: str) -> bool:
        return _covered(action, tuple(self.actions))


@lru_cache
def _covered(action: str, allowed: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(action.lower(), each.lower()) for each in allowed)


class Identity:
    """The tenant: principals, their tokens, and the check of a token.

    :param clock: real Unix time.
    :param store: keeps the key from which all tokens and secrets are derived, so that they survive a restart.
    """

    def __init__(self, seed: Mapping[str, Any], clock: Callable[[], float], store: Store) -> None:
        self.clock = clock
        self._key = bytes.fromhex(store.lasting("key", lambda: secrets.token_hex(32)))
        self.tenant = str(seed["tenant_id"])
        self.principals = {
            name: Principal(
                name=name,
                client_id=each["client_id"],
                secret=each.get("secret") or self._signature(f"secret of {name}"),
                actions=tuple(each["actions"]),
            )
            for name, each in seed["principals"].items()
        }
        self.managed = str(seed["managed_identity"])
        self.identity_header = self._signature("identity header")
        self.public_keys: dict[str, RSAPublicKey] = {}
        self.revoked = set(store.all("revoked"))
        self.lifetime = 3599.0
        self.expired_secrets: Sequence[str] = ()
        self.further_tenants: Sequence[str] = ()  # those of Resource Guards, which know the same principals

    def by_client_id(self, client_id: str) -> Principal | None:
        wanted = client_id.lower()
        return next((p for p in self.principals.values() if p.client_id.lower() == wanted), None)

    # Signing in

    def grant(self, tenant: str, form: Mapping[str, str]) -> Json:
        """Answer ``POST /{tenant}/oauth2/v2.0/token``, or raise with Entra's error body."""
        client_id = form.get("client_id", "")
        self.check_tenant(tenant)
        principal = self.by_client_id(client_id)
        if principal is None:
            raise _refuse(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. This "
                "can happen if the application has not been installed by the administrator of the tenant.",
            )
        if form.get("grant_type") != "client_credentials":
            raise _refuse(
                400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type."
            )
        self._check_proof(principal, form)
        scope = form.get("scope", "")
        if not scope.endswith("/.default"):
            raise _refuse(
                400, "invalid_scope", 1002012, f"The provided value for scope {scope} is not valid."
            )
        # A client that can answer challenges always sends claims (xms_cc). Only an answer contains nbf.
        answers = '"nbf"' in form.get("claims", "")
        audience = scope.removesuffix("/.default")
        token = self.token(principal, audience, answers_challenge=answers, tenant=tenant)
        lasts = int(self.lifetime)
        return {"token_type": "Bearer", "expires_in": lasts, "ext_expires_in": lasts, "access_token": token}

    def check_tenant(self, tenant: str) -> None:
        if tenant.lower() not in map(str.lower, (self.tenant, *self.further_tenants)):
            raise _refuse(
                400,
                "invalid_request",
                90002,
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are "
                "signing into the correct cloud.",
            )

    def _check_proof(self, principal: Principal, form: Mapping[str, str]) -> None:
        if "client_assertion" in form:
            self._check_assertion(principal, form["client_assertion"])
        elif not hmac.compare_digest(form.get("client_secret", "").encode(), principal.secret.encode()):
            raise _refuse(
                401,
                "invalid_client",
                7000215,
                "Invalid client secret provided. Ensure the secret being sent in the request is the client "
                f"secret value, not the client secret ID, for a secret added to app '{principal.client_id}'.",
            )

        elif principal.name in self.expired_secrets:
            raise _refuse(
                401,
                "invalid_client",
                7000222,
                f"The provided client secret keys for app '{principal.client_id}' are expired. Visit the "
                "Azure portal to create new keys for your app, or consider using certificate credentials.",
            )

    def _check_assertion(self, principal: Principal, assertion: str) -> None:
        """A certificate's signature, or a token of the workload's own issuer (which is this emulator)."""
        try:
            header, claims = (_decode(part) for part in assertion.split(".")[:2])
            if header["alg"] == "HS256":
                valid = self._signed(assertion) and claims["sub"] == principal.name
            else:
                valid = _signed_by(self.public_keys[principal.name], header["alg"], assertion)
        except (KeyError, ValueError, TypeError):
            valid = False
        if not valid:
            raise _refuse(
                401, "invalid_client", 700027, "The certificate used to sign the assertion is not registered."
            )

    def managed_token(self, header: str, query: Mapping[str, str]) -> tuple[int, Json]:
        """Answer App Service's ``GET IDENTITY_ENDPOINT``: status and body."""
        if not hmac.compare_digest(header.encode(), self.identity_header.encode()):
            return 401, {"statusCode": 401, "message": "The X-IDENTITY-HEADER is missing or wrong."}
        client_id = query.get("client_id")
        principal = self.by_client_id(client_id) if client_id else self.principals[self.managed]
        if principal is None:
            return 400, {
                "statusCode": 400,
                "message": f"No User Assigned Managed Identity found for {client_id}.",
            }
        resource = query.get("resource", "")
        return 200, {
            "access_token": self.token(principal, resource),
            "expires_on": str(int(self.clock() + self.lifetime)),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": principal.client_id,
        }

    # Tokens

    def token(
        self, principal: Principal, audience: str, *, answers_challenge: bool = False, tenant: str = ""
    ) -> str:
        """A token for an audience.

        :param answers_challenge: whether it was asked for with the claims of a challenge.
        :param tenant: the tenant that issues it; the emulated one by default.
        """
        now = int(self.clock())
        return self._sign(
            {
                "aud": audience,
                "iss": f"https://sts.windows.net/{self.tenant}/",
                "iat": now,
                "nbf": now,
                "exp": now + int(self.lifetime),
                "appid": principal.client_id,
                "oid": principal.object_id,
                "sub": principal.object_id,
                "tid": tenant or self.tenant,
                "ver": "1.0",
                "uti": secrets.token_urlsafe(12),
                "answers_challenge": answers_challenge,
            }
        )

    def federated(self, principal: Principal) -> str:
        """Return an assertion as a Kubernetes cluster projects it for a workload identity."""
        now = int(self.clock())
        return self._sign({"sub": principal.name, "aud": "api://AzureADTokenExchange", "exp": now + 86400})

    def check(self, authorization: str, base: str) -> tuple[Principal, Json]:
        """Return the sender of a request and the claims of its token.

        :raises RefusalError: with the 401 of Azure Resource Manager.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self.refusal(
                "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
            )
        try:
            # Claims of a token that was not issued here are not read.
            claims = _decode(token.split(".")[1]) if self._signed(token) else {}
            principal = self.by_client_id(claims["appid"])
        except (IndexError, KeyError, ValueError):
            principal = None
        if principal is None:
            raise self.refusal("InvalidAuthenticationToken", "The access token is invalid.")
        if str(claims["aud"]).rstrip("/") not in (*AUDIENCES, base):
            raise self.refusal(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{claims['aud']}'. It "
                f"should exactly match with one of the allowed audiences '{AUDIENCES[0]}/'.",
            )
        if claims["exp"] <= self.clock() or claims["uti"] in self.revoked:
            raise self.expired(claims)
        return principal, claims

    def expired(self, claims: Json) -> RefusalError:
        """Return the 401 for an expired token."""
        now = self.clock()
        expiry = moment(min(claims["exp"], now))
        return self.refusal(
            "ExpiredAuthenticationToken",
            f"The access token expiry UTC time '{expiry}' is earlier than current UTC time '{moment(now)}'.",
        )

    def refusal(self, code: str, message: str) -> RefusalError:
        challenge = (
            f'Bearer authorization_uri="https://login.windows.net/{self.tenant}", error="invalid_token", '
        )
        challenge += f'error_description="{message}"'
        headers = {"WWW-Authenticate": challenge, "x-ms-failure-cause": "gateway"}
        return RefusalError(status=401, code=code, message=message, headers=headers)

    def claims_challenge(self) -> RefusalError:
        """Return the 401 of continuous access evaluation, which demands a token issued from now on."""
        wanted = {"access_token": {"nbf": {"essential": True, "value": str(int(self.clock()))}}}
        challenge = f'Bearer authorization_uri="https://login.windows.net/{self.tenant}", '
        challenge += f'error="insufficient_claims", claims="{_b64(json.dumps(wanted).encode())}"'
        message = "Continuous access evaluation resulted in challenge with result: InteractionRequired."
        headers = {"WWW-Authenticate": challenge, "x-ms-failure-cause": "gateway"}
        return RefusalError(
            status=401, code="TokenIssuedBeforeRevocationTimestamp", message=message, headers=headers
        )

    def _sign(self, claims: Json) -> str:
        head = ".".join(_b64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "HS256"}, claims))
        return f"{head}.{self._signature(head)}"

    def _signature(self, head: str) -> str:
        return _b64(hmac.new(self._key, head.encode(), hashlib.sha256).digest())

    def _signed(self, token: str) -> bool:
        head, _, signature = token.rpartition(".")
        return hmac.compare_digest(signature.encode(), self._signature(head).encode())

    def discovery(self, tenant: str, base: str) -> Json:
        """Return the tenant's openid-configuration, with every endpoint on this server."""
        self.check_tenant(tenant)
        here = f"{base}/{tenant}"
        return {
            "token_endpoint": f"{here}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "issuer": f"{here}/v2.0",
            "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{here}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{here}/discovery/v2.0/keys",
            "response_types_supported": ["token"],
        }


def instance_discovery(tenant_path: str, base: str) -> Json:
    """Return the response of ``/common/discovery/instance``: this host is its own and only alias."""
    host = base.partition("//")[2]
    return {
        "tenant_discovery_endpoint": f"{base}/{tenant_path}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }


class SignInError(Exception):
    """An error of the token endpoint, with Entra's own body."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(body["error_description"])
        self.status, self.body = status, body


def _refuse(status: int, error: str, number: int, text: str) -> SignInError:
    trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    return SignInError(
        status,
        {
            "error": error,
            "error_description": f"AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation}",
            "error_codes": [number],
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={number}",
        },
    )


def _signed_by(key: RSAPublicKey, algorithm: str, token: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    head, _, signature = token.rpartition(".")
    digest = hashes.SHA256()
    ways: dict[str, padding.AsymmetricPadding] = {
        "RS256": padding.PKCS1v15(),
        "PS256": padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.AUTO),
    }
    try:
        key.verify(_unb64(signature), head.encode(), ways[algorithm], digest)
    except InvalidSignature:
        return False
    return True


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _decode(part: str) -> Json:
    try:
        return dict(json.loads(_unb64(part)))
    except RecursionError:
        raise ValueError("the text is nested too deeply") from None
