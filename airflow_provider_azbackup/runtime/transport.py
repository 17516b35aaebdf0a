"""Two drivers for a flow, one blocking and one async, over azure-core's pipelines.

This module imports azure-core and a transport, about 100 ms of CPU: import it inside methods only.

Source: https://learn.microsoft.com/python/api/azure-core/azure.core.pipeline.policies
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import logging
import math
import random
import re
import socket
import ssl
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote
from urllib.request import getproxies

import aiohttp
import requests
from azure.core import AsyncPipelineClient, PipelineClient
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    ServiceRequestError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AsyncRetryPolicy,
    BearerTokenCredentialPolicy,
    HttpLoggingPolicy,
    ProxyPolicy,
    RequestIdPolicy,
    RetryPolicy,
    UserAgentPolicy,
)
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport
from azure.core.rest import HttpRequest
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

from airflow_provider_azbackup import __version__
from airflow_provider_azbackup.core.model.json_safe import clean
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import RESPONSE_GRACE, Answer, Flow, NoResponse, Request, Response
from airflow_provider_azbackup.exceptions import AzureBackupAuthError, AzureBackupConfigError
from airflow_provider_azbackup.runtime import clock

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential

log = logging.getLogger(__name__)
T = TypeVar("T")

# Seconds. azure-core's own 300 and 300 would hold a look at a job for ten minutes. The libraries start the
# second one again with every byte; here it is for the whole answer.
_TIMEOUTS = {"connection_timeout": 10, "read_timeout": 60}
# Bytes of an answer once it is decompressed. A page of 1,000 jobs or protected items has at most 3 MB.
LARGEST_ANSWER = 8 * 2**20
_READ_AT_ONCE = 16 * 2**10
# Tries after the first, and the longest Retry-After sat out inside a call. A longer one goes back to the
# caller with the 429: a wait obeys it between two looks, where nothing is held up by it.
_RETRIES = {"GET": (3, 30.0), "POST": (8, 330.0)}
# Seconds that a GET with all of its tries may take. Where less is left, it is sent once, because the wait
# itself asks again.
_WITH_RETRIES = 360.0
# What a refusal says: Entra ID's codes, msal of a tenant that is not there, a chain that found no identity.
_REFUSALS = ("AADSTS", "authority configuration", "DefaultAzureCredential failed")
# What is wrong with the connection where Entra ID refuses it, by its code or by the words of msal.
_HINTS = {
    "AADSTS7000215:": "the client secret (the connection's password) is wrong; give its value, not its id",
    "AADSTS7000222:": "the client secret has expired; create another one and put it into the password",
    "AADSTS700016:": "the client id (the connection's login) is not known in the tenant; correct one of them",
    "AADSTS90002:": "the tenant is not known; correct tenant_id in the connection's extra",
    "authority configuration": "the tenant is not known; correct tenant_id in the connection's extra",
}
# What the libraries stumble over in an answer that is not what they know, a token's above all.
_NONSENSE = (ValueError, TypeError, KeyError)
# How Azure Resource Manager refuses an api-version: InvalidApiVersionParameter, NoRegisteredProviderFound
# ("... for location ... and API version ..."), InvalidResourceType ("... for api version ...").
_UNKNOWN_VERSION = re.compile(r"api[ -]?version|NoRegisteredProviderFound|InvalidResourceType", re.IGNORECASE)
# Bytes of a file of certificates; the list of all authorities that a system trusts has a fifth of a MiB.
_LARGEST_FILE = 4 * 2**20
# A login in a URL, such as that of a proxy.
_LOGIN = re.compile(r"(?<=://)[^/\s]*@")
# The header with the token of a second tenant. Like the first token, it goes to the endpoint alone.
_AUXILIARY = "x-ms-authorization-auxiliary"
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class _Retries:
    """azure-core's retries, narrowed: a GET when asking again can help, a POST after a 429 only.

    azure-core by itself re-sends a POST on 500, 503, 504 and on anything with Retry-After: one request for a
    backup becomes four backups. A 429 was refused at the door, so nothing was started.
    """

    def is_retry(self, settings: dict[str, Any], response: Any) -> bool:
        """Decide whether the answer is one to ask again for."""
        method, status = response.http_request.method, response.http_response.status_code
        if status not in (_TRANSIENT if method == "GET" else {429}):
            return False
        asked = self.get_retry_after(response)
        if asked is None:
            # The service's own 429 names a wait of minutes in its text at the least; a quick second try
            # would only restart that wait.
            return bool(settings["total"] > 0 and not (method == "GET" and status == 429))
        return bool(settings["total"] > 0 and asked <= _RETRIES[method][1])

    def get_retry_after(self, response: Any) -> float | None:
        """Return the seconds Azure asked for and up to a tenth more: many tasks may get the same answer."""
        try:
            asked: float | None = super().get_retry_after(response)  # type: ignore[misc]  # azure-core's policy
        except (ValueError, OverflowError):  # neither a number nor a date
            return None
        return asked and asked * random.uniform(1.0, 1.1)

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """Return a doubling pause with jitter, from the first retry on."""
        return float(min(60.0, 0.8 * 2 ** len(settings["history"])) * random.uniform(0.5, 1.0))


_TOO_LARGE = f"the answer has more than {LARGEST_ANSWER} bytes"


class _SyncRetries(_Retries, RetryPolicy[Any, Any]):
    pass


class _AsyncRetries(_Retries, AsyncRetryPolicy[Any, Any]):
    pass


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a moment, however slowly bytes come: a socket's own timeout is for each read.

    :param raw: what reads the socket.
    :param sock: the socket. Its timeout now is that of the whole answer.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock = raw, sock
        limit = sock.gettimeout()
        self._end = None if limit is None else time.monotonic() + limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._end is not None:
            # Never 0, which means not to wait at all.
            self._sock.settimeout(max(0.001, self._end - time.monotonic()))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """Applies the timeout of the socket to the whole answer, headers and body."""

    def __init__(self, sock: socket.socket, *more: Any, **options: Any) -> None:
        super().__init__(sock, *more, **options)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock))


class _BoundedAdapter(HTTPAdapter):
    """Reads an answer within a limit of time and of size, whatever the server sends and however slowly."""

    def get_connection_with_tls_context(self, *more: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*more, **options)
        pool.ConnectionCls = _timed(pool.ConnectionCls)
        return pool

    def send(self, *more: Any, **options: Any) -> requests.Response:
        """Send a request and read the whole answer."""
        response: Any = super().send(*more, **options)
        response.raw.enforce_content_length = True  # as azure-core sets it, too late for this
        body = bytearray()
        try:
            for chunk in response.iter_content(_READ_AT_ONCE):
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise requests.exceptions.ContentDecodingError(_TOO_LARGE)
        except requests.exceptions.ConnectionError as error:
            # azure-core takes this class for a request that was never sent.
            raise requests.exceptions.ReadTimeout(error) from error
        finally:
            response.close()
        # What requests itself sets once it has read an answer.
        response._content, response._content_consumed = bytes(body), True
        whole: requests.Response = response
        return whole


@cache
def _timed(connection: type[Any]) -> type[Any]:
    """Return a class of connections whose answers have a limit of time as a whole."""
    return type(connection.__name__, (connection,), {"response_class": _TimedResponse})


class _SyncTransport(RequestsTransport):  # type: ignore[misc]  # exported lazily, so untyped
    # When the call ends at the latest, by time.monotonic(): a request for a token is part of it.
    until = math.inf

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request within the time of the call; no error shows the password of a proxy."""
        if (left := self.until - time.monotonic()) <= 0:
            raise ServiceResponseTimeoutError("read timeout: no whole answer by the deadline")
        config = self.connection_config
        for name, usual in (("connection_timeout", config.timeout), ("read_timeout", config.read_timeout)):
            options[name] = min(options.get(name, usual), left)
        with _no_passwords():
            return super().send(request, **options)

    def sleep(self, duration: float) -> None:
        clock.current().sleep(duration)


class _BoundedResponse(aiohttp.ClientResponse):
    """Reads an answer within a limit of size."""

    async def read(self) -> bytes:
        """Return the body, decompressed.

        :raises aiohttp.ClientPayloadError: when it is too large.
        """
        size, chunks = 0, []
        async for chunk in self.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > LARGEST_ANSWER:
                self.close()
                raise aiohttp.ClientPayloadError(_TOO_LARGE)
        return b"".join(chunks)


class _AsyncTransport(AioHttpTransport):  # type: ignore[misc]  # exported lazily, so untyped
    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request and read the whole answer within the time for it, by the proxy that a worker takes.

        No error shows the password of a proxy.
        """
        limit = options.get("read_timeout", self.connection_config.read_timeout)
        with _no_passwords():
            try:
                proxy = select_proxy(request.url, get_environ_proxies(request.url))
                options["proxy"] = proxy and prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]
                async with asyncio.timeout(limit):
                    return await super().send(request, **options)
            except TimeoutError as error:
                raise ServiceResponseTimeoutError(f"read timeout: no whole answer in {limit:g} s") from error

    async def sleep(self, duration: float) -> None:
        await clock.current().pause(duration)


class _Versions:
    """Asks in a newer api-version where a call wants one, until the cloud turns out not to know it."""

    _settings: Settings
    _knows_newer = True

    def _version(self, call: Request) -> str:
        usual = self._settings.version_of(call.path)
        if call.only_api_version:
            return call.only_api_version
        return max(usual, call.api_version) if self._knows_newer else usual

    def _is_too_new(self, call: Request, answer: Answer) -> bool:
        """Whether the api-version was refused; no call of this client asks in a newer one again then."""
        asked, usual = self._version(call), self._settings.version_of(call.path)
        if asked in (usual, call.only_api_version):
            return False
        if isinstance(answer, NoResponse) or answer.status not in (400, 404):
            return False
        if not _UNKNOWN_VERSION.search(answer.text):
            return False
        self._knows_newer = False
        log.info("This cloud does not know api-version %s yet; asking in %s", asked, usual)
        return True


class SyncDriver(_Versions):
    """Holds conversations with Azure from a worker, over ``requests``.

    :param settings: the connection.
    :param reread: reads the connection again, when its credential has been refused: it may hold a new secret.
    :param timeouts: seconds to connect and to read a whole answer, instead of 10 and 60.
    """

    def __init__(
        self, settings: Settings, *, reread: Callable[[], Settings] | None = None, **timeouts: float
    ) -> None:
        self._settings = settings
        self._reread = reread
        session = requests.Session()
        session.auth = _no_netrc
        for scheme in ("https://", "http://"):
            session.mount(scheme, _BoundedAdapter())
        self._transport = _SyncTransport(
            session=session,
            **{**_TIMEOUTS, **timeouts},
            connection_verify=settings.ca_bundle if _trusted(settings) else True,
        )
        self._sign_in()

    def _sign_in(self) -> None:
        import azure.identity as identity

        self.credential: TokenCredential = _credential(identity, self._settings, self._transport)
        tokens = BearerTokenCredentialPolicy(self.credential, self._settings.scope, enable_cae=True)
        self._client: PipelineClient[Any, Any] = PipelineClient(
            self._settings.endpoint, transport=self._transport, policies=_policies(_SyncRetries(), tokens)
        )

    def play(self, flow: Flow[T], *, retry: bool = True) -> T:
        """Hold a conversation to its end and return what it was held for.

        :param retry: False sends every call once, for a connection test that must end soon.
        """
        try:
            call = next(flow)
            while True:
                if call.delay:
                    clock.current().sleep(call.delay)
                call = flow.send(self._send(call, retry))
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, call: Request, retry: bool) -> Answer:
        answer = self._send_once(call, retry)
        return self._send_once(call, retry) if self._is_too_new(call, answer) else answer

    def _send_once(self, call: Request, retry: bool) -> Answer:
        limit = _limit(call)
        self._transport.until = math.inf if limit is None else time.monotonic() + limit
        try:
            request = _request(self._settings, call, self._version(call))
            if missing := self._add_guard_token(request, call):
                return missing
            response = self._client.send_request(
                request,
                **_options(self._settings, call, retry, self._transport),
            )
        except AzureError as error:
            # Here a failed request is a connection that was never made, not one that broke.
            if isinstance(error, ClientAuthenticationError):
                # A new secret may be there; and msal would repeat an outage for a minute after its end.
                self._sign_in_anew()
            return _lost(error, sent=not isinstance(error, ServiceRequestError))
        except _NONSENSE as error:
            return _unread(error)
        if response.status_code == 401:
            # The credential would offer the refused token again for as long as it thinks it valid.
            self._sign_in_anew()
        return _reply(response)

    def _add_guard_token(self, request: HttpRequest, call: Request) -> NoResponse | None:
        """Add the token of a Resource Guard's tenant; return why there is none."""
        tenant = self._settings.guard_tenant_id
        if call.names_guard and tenant:
            try:
                token = self.credential.get_token(self._settings.scope, tenant_id=tenant)
            except AzureError as error:
                self._sign_in_anew()
                return _no_guard_token(error, self._settings)
            request.headers[_AUXILIARY] = f"Bearer {token.token}"
        return None

    def _sign_in_anew(self) -> None:
        if self._reread:
            try:
                self._settings = self._reread()
            except Exception as error:  # a secrets backend raises what it likes; the old ones may do yet
                log.warning("Connection %r cannot be read again: %s", self._settings.conn_id, error)
        self._sign_in()

    def close(self) -> None:
        """Close the client and the credential."""
        self._client.close()
        getattr(self.credential, "close", lambda: None)()


class AsyncDriver(_Versions):
    """Holds conversations with Azure from an event loop, over ``aiohttp``.

    :param settings: the connection.
    :param reread: reads the connection again, when its credential has been refused: it may hold a new secret.
    :param timeouts: as for :class:`SyncDriver`.
    """

    def __init__(
        self, settings: Settings, *, reread: Callable[[], Awaitable[Settings]], **timeouts: float
    ) -> None:
        self._settings = settings
        self._reread = reread
        self._transport = _AsyncTransport(**{**_TIMEOUTS, **timeouts})
        self._sign_in()
        # Last: settings that make no credential must not leave a session open.
        self._transport.session = _session(settings)

    def _sign_in(self) -> None:
        import azure.identity.aio as identity

        self.credential: AsyncTokenCredential = _credential(identity, self._settings, self._transport)
        tokens = AsyncBearerTokenCredentialPolicy(self.credential, self._settings.scope, enable_cae=True)
        self._client: AsyncPipelineClient[Any, Any] = AsyncPipelineClient(
            self._settings.endpoint, transport=self._transport, policies=_policies(_AsyncRetries(), tokens)
        )

    async def play(self, flow: Flow[T]) -> T:
        """Hold a conversation to its end and return what it was held for."""
        try:
            call = next(flow)
            while True:
                if call.delay:
                    await clock.current().pause(call.delay)
                call = flow.send(await self.answer(call))
        except StopIteration as end:
            result: T = end.value
            return result

    async def answer(self, call: Request) -> Answer:
        """Send one call now and return what came of it."""
        answer = await self._send_once(call)
        return await self._send_once(call) if self._is_too_new(call, answer) else answer

    async def _send_once(self, call: Request) -> Answer:
        try:
            async with asyncio.timeout(_limit(call)):
                request = _request(self._settings, call, self._version(call))
                if missing := await self._add_guard_token(request, call):
                    return missing
                response = await self._client.send_request(
                    request,
                    **_options(self._settings, call, True, self._transport),
                )
        except TimeoutError:
            return NoResponse(
                reason="read timeout: no whole answer by the deadline", at=clock.current().now()
            )
        except AzureError as error:
            from aiohttp import ClientConnectorError

            # azure-core calls every failure of aiohttp a failed request, even one after the server had it.
            if isinstance(error, ClientAuthenticationError):  # as above
                await self._sign_in_anew()
            return _lost(error, sent=not isinstance(error.inner_exception, ClientConnectorError))
        except _NONSENSE as error:
            return _unread(error)
        if response.status_code == 401:  # as above
            await self._sign_in_anew()
        return _reply(response)

    async def _add_guard_token(self, request: HttpRequest, call: Request) -> NoResponse | None:
        """As above."""
        tenant = self._settings.guard_tenant_id
        if call.names_guard and tenant:
            try:
                token = await self.credential.get_token(self._settings.scope, tenant_id=tenant)
            except AzureError as error:
                await self._sign_in_anew()
                return _no_guard_token(error, self._settings)
            request.headers[_AUXILIARY] = f"Bearer {token.token}"
        return None

    async def _sign_in_anew(self) -> None:
        try:
            self._settings = await self._reread()
        except Exception as error:  # as above
            log.warning("Connection %r cannot be read again: %s", self._settings.conn_id, error)
        self._sign_in()

    async def close(self) -> None:
        """Close the client and the credential."""
        await self._client.close()
        await self.credential.close()


def _credential(identity: Any, settings: Settings, transport: Any) -> Any:
    """Build the credential the settings name; both halves of azure-identity use the same class names."""
    arguments: dict[str, Any] = {
        **settings.credential_arguments,
        "transport": transport,
        "http_logging_level": logging.DEBUG,
    }
    if settings.guard_tenant_id:
        arguments["additionally_allowed_tenants"] = [settings.guard_tenant_id]
    if settings.credential != "ManagedIdentityCredential":
        # Instance discovery asks login.microsoftonline.com whether an authority exists: no use for our own.
        arguments |= {
            "authority": settings.authority,
            "disable_instance_discovery": settings.has_own_authority,
        }
    try:
        if path := settings.credential_arguments.get("certificate_path"):
            _check_file(path)
        return getattr(identity, settings.credential)(**arguments)
    except (ValueError, OSError) as error:  # an impossible tenant id, a certificate that is not there
        raise AzureBackupConfigError(
            f"connection {settings.conn_id!r} cannot be used for a {settings.credential}: {error}"
        ) from None


def identity_of(credential: TokenCredential, settings: Settings) -> str:
    """Get a token and say whose it is, by the claims Entra ID put into it; the token itself goes nowhere.

    :raises AzureBackupError: when there is no token.
    """
    try:
        token = credential.get_token(settings.scope).token
    except AzureError as error:
        lost = _lost(error, sent=False)
        raise lost.error(lost.reason) from None
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        name = claims.get("upn") or claims.get("appid")
        return f"{name} (object id {claims.get('oid')}, by {settings.credential})"
    except (IndexError, ValueError, AttributeError):  # an opaque token is as good as any
        return f"an identity by {settings.credential}"


def _trusted(settings: Settings) -> ssl.SSLContext | None:
    """Load the connection's CA bundle, or None when it names none.

    :raises AzureBackupConfigError: when it is not there or holds no certificate.
    """
    if not settings.ca_bundle:
        return None
    try:
        _check_file(settings.ca_bundle)
        return ssl.create_default_context(cafile=settings.ca_bundle)
    except (OSError, ValueError) as error:
        raise AzureBackupConfigError(
            f"ca_bundle {settings.ca_bundle!r} in the extra of connection {settings.conn_id!r} cannot be "
            f"read on this computer ({error}); expected a PEM file that every worker and triggerer can read"
        ) from None


def _check_file(path: str) -> None:
    """Refuse what no library may read to its end: a device has none, and a pipe waits for its writer.

    :raises OSError: when there is nothing, or something else than a regular file of a sensible size.
    """
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_FILE:
        raise OSError(f"not a regular file of at most {_LARGEST_FILE // 2**20} MiB")


def _policies(retries: Any, tokens: Any) -> list[Any]:
    """Return the pipeline: no redirects (a token must not follow one), no tracing of bodies or tokens."""
    return [
        RequestIdPolicy(),
        UserAgentPolicy(base_user_agent=f"airflow-provider-azbackup/{__version__}"),
        ProxyPolicy(),
        retries,
        tokens,
        HttpLoggingPolicy(logger=log, http_logging_level=logging.DEBUG),
    ]


def _session(settings: Settings) -> aiohttp.ClientSession:
    """Open a session that limits answers, and trusts the connection's CA where it names one.

    It does not read the environment, because ~/.netrc would replace the token: the transport chooses the
    proxy.

    A CA path given to azure-core's async transport would be read again, with a new socket, for every request.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_trusted(settings) or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=_BoundedResponse,
    )


def _request(settings: Settings, call: Request, version: str) -> HttpRequest:
    query = {"api-version": version, **dict(call.query)}
    return HttpRequest(
        call.method,
        settings.endpoint + quote(call.path),
        # azure-core joins the values as they are: a skip token's "+" would arrive as a blank.
        params={name: quote(value, safe="") for name, value in query.items()},
        headers={"Accept": "application/json"},
        json=call.body,
    )


def _no_guard_token(error: AzureError, settings: Settings) -> NoResponse:
    """Return why a request that names a Resource Guard was not sent."""
    lost = _lost(error, sent=False)
    return NoResponse(
        reason=f"no token of tenant {settings.guard_tenant_id!r}, which guard_tenant_id in the extra of "
        f"connection {settings.conn_id!r} names for the Resource Guard: {error}",
        at=lost.at,
        sent=False,
        error=lost.error,
    )


def _limit(call: Request) -> float | None:
    """Return the seconds that a call may take; None for the usual time.

    A call whose deadline has passed already has the usual time: a last look may come late.
    """
    left = call.deadline - clock.current().now()
    return max(left, RESPONSE_GRACE) if 0 < left < math.inf else None


def _options(settings: Settings, call: Request, retry: bool, transport: Any) -> dict[str, Any]:
    limit, usual = _limit(call), transport.connection_config
    may_retry = retry and not call.without_retries and (limit is None or limit >= _WITH_RETRIES)
    tries = _RETRIES[call.method][0] if may_retry else 0
    timeouts = {"connection_timeout": usual.timeout, "read_timeout": usual.read_timeout}
    return {
        "retry_total": tries,
        "retry_status": tries,
        # azure-core refuses to send a token over plain http; settings allow that for loopback hosts alone.
        "enforce_https": not settings.is_plain_http,
        **{name: min(seconds, limit or seconds) for name, seconds in timeouts.items()},
    }


def _reply(response: Any) -> Response:
    return Response(
        status=response.status_code,
        at=clock.current().now(),
        url=response.request.url,
        headers={name.lower(): clean(value) for name, value in response.headers.items()},
        text=clean(response.content.decode("utf-8", "replace")),
    )


def _no_netrc(request: Any) -> Any:
    """Leave a request as it is, because requests would replace the token by a login from ~/.netrc."""
    return request


@contextmanager
def _no_passwords() -> Iterator[None]:
    """Take the passwords of proxies out of the errors of the HTTP libraries, which azure-identity logs."""
    try:
        yield
    except (AzureError, ValueError) as error:
        text = _without_passwords(str(error))
        if text == str(error):
            raise
        if not isinstance(error, AzureError):
            raise ValueError(text) from None
        raise type(error)(text, error=error.inner_exception) from None


def _without_passwords(text: str) -> str:
    for proxy in getproxies().values():
        # The pattern does not match the login in a malformed address, and a library may have altered that.
        login = proxy.rpartition("@")[0]
        login = login.partition("://")[2] or login
        # With one of these characters in a password, a library shows what is before it as the host.
        read = re.split(r"[/?#]", login)[0]
        for secret in filter(None, (login, login.partition(":")[2], read, read.partition(":")[2])):
            text = text.replace(secret, "***")
    return _LOGIN.sub("***@", text)


def _lost(error: AzureError, *, sent: bool) -> NoResponse:
    at = clock.current().now()
    if not isinstance(error, ClientAuthenticationError):
        return NoResponse(reason=f"{type(error).__name__}: {error}", at=at, sent=sent)
    if _is_outage(error):
        return NoResponse(reason=f"no token: {error}", at=at, sent=False)
    hints = (hint for words, hint in _HINTS.items() if words in str(error))
    reason = ". ".join((*hints, str(error).rstrip()))
    return NoResponse(reason=reason, at=at, sent=False, error=AzureBackupAuthError)


def _unread(error: Exception) -> NoResponse:
    return NoResponse(
        reason=f"an answer could not be read: {type(error).__name__}: {error}", at=clock.current().now()
    )


def _is_outage(error: ClientAuthenticationError) -> bool:
    """Whether the sign-in service is out of order; otherwise it refused the credential.

    azure-identity calls both a failed authentication, often without the status of the answer.
    """
    from azure.identity import CredentialUnavailableError

    refused = getattr(error.response, "status_code", 0) in (400, 401, 403)
    return not (
        refused
        or isinstance(error, CredentialUnavailableError)
        or any(words in str(error) for words in _REFUSALS)
    )
