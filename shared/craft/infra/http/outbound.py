"""Calls to addresses that users give (webhooks, datasets by URL): public ones only, unless the operator allows a host.

A name is resolved once, all of its addresses are checked, and the connection goes to a checked address. A later change
of the name's addresses therefore has no effect. Redirects are not followed.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence

import httpx
from anyio.to_thread import run_sync

from craft.errors import HostUnknown, RequestInvalid, Unavailable

_HTTPS_PORT = 443
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        # Protocol assignments (with Teredo and ORCHID), documentation, 6to4. Teredo and 6to4 embed IPv4 addresses.
        ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_SPECIAL_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        # RFC 6890 and later. Clouds have services of a machine's own in 100.64.0.0/10, 192.0.0.0/24 and 168.63.129.16.
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
"""Python's own table grows with its versions; these hold with each."""
_HINT = "Name a public https address, or have the operator add the host to CRAFT_OUTBOUND__ALLOWED_HOSTS."
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
"""Returns a host's addresses. Raises socket.gaierror."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that the machine's resolver gives, in its order."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in addresses]


class OutboundPolicy:
    """Decides which addresses may be called. `allowed_hosts` may have any address, and need no TLS."""

    def __init__(self, allowed_hosts: Iterable[str] = (), *, resolve: Resolve = resolve) -> None:
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._resolve = resolve

    def check_form(self, url: str) -> None:
        """Refuse a URL that is wrong before its name is resolved. Raises RequestInvalid."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise RequestInvalid(f"This is no URL: {error}", hint=_HINT) from None
        self._check_scheme(parsed)
        if parsed.host.lower() not in self._allowed and _is_address(parsed.host):
            _check_public(parsed.host, parsed.host)

    def pinned(self, request: httpx.Request) -> httpx.Request:
        """The same request to a checked address. Raises RequestInvalid, HostUnknown, Unavailable."""
        self._check_scheme(request.url)
        host = request.url.host
        try:
            addresses = self._resolve(host, request.url.port or _HTTPS_PORT)
        except (socket.gaierror, UnicodeError) as error:
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                raise Unavailable("The machine's resolver does not answer.", hint="Try again in a minute.") from error
            raise HostUnknown(f"The host {host[:200]} is not known.", hint="Check its name.") from error
        if not addresses:
            raise HostUnknown(f"The host {host[:200]} has no address.", hint="Check its name.")
        if host.lower() not in self._allowed:
            # All addresses are checked, so that their order does not matter.
            for address in addresses:
                _check_public(host, address)
        extensions = {**request.extensions, "sni_hostname": host}
        return httpx.Request(
            request.method,
            request.url.copy_with(host=addresses[0].partition("%")[0]),
            headers=request.headers,
            stream=request.stream,
            extensions=extensions,
        )

    def _check_scheme(self, url: httpx.URL) -> None:
        if url.userinfo:
            raise RequestInvalid("A URL with a password in it is not taken.", hint="Leave the part before @ out.")
        if not url.host or url.scheme not in {"https", "http"}:
            raise RequestInvalid("This is no https URL.", hint=_HINT)
        if url.scheme == "http" and url.host.lower() not in self._allowed:
            raise RequestInvalid(f"{url.host[:200]} is to be reached by https.", hint=_HINT)


class OutboundTransport(httpx.AsyncBaseTransport):
    """Applies the policy to each request: `httpx.AsyncClient(transport=…, follow_redirects=False)`."""

    def __init__(self, policy: OutboundPolicy, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._policy = policy
        # No proxy from the environment: it would resolve the name again.
        self._inner = inner or httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`. Also raises RequestInvalid, HostUnknown and Unavailable."""
        return await self._inner.handle_async_request(await run_sync(self._policy.pinned, request))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _check_public(host: str, text: str) -> None:
    try:
        address = _reached(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        address = None
    if address is None or not _is_public(address):
        raise RequestInvalid(f"{host[:200]} is no public address.", hint=_HINT)


def _reached(address: Address) -> Address:
    """The IPv4 address that a connection to an IPv6 address goes to, if any; otherwise the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        # Resolvers give these for hosts that have IPv4 only, in networks that have IPv6 only.
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _is_public(address: Address) -> bool:
    """True if the address is global unicast and none of the special ones; what is not known to be public is not."""
    if isinstance(address, ipaddress.IPv4Address):
        special = any(address in network for network in _SPECIAL_IPV4)
    else:
        special = address not in _GLOBAL_UNICAST or any(address in network for network in _SPECIAL_IPV6)
    return not special and address.is_global and not address.is_multicast
