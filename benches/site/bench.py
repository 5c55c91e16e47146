#!/usr/bin/env python3
"""Measures a site server and five gateways with a large store: how long a block takes until every
gateway denies, and what it costs.

    benches/site/bench.py --sitegate target/release/sitegate [--store sqlite|postgres]
        [--devices N] [--blocks N] [--tokens N] [--changes N] [--pollers N]

Times are wall time, processor times are those of the processes (/proc). The rows of the large store
are written by SQL in the form in which sitegate writes them.
"""

import argparse
import asyncio
import base64
import glob
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "mp01.contoso.com"
ISSUER = f"https://{HOST}/sitegate/oauth2"
POLICY = "/SMS_MP/.sms_pol?x.1_00"
GATEWAYS = 5
TICKS = os.sysconf("SC_CLK_TCK")


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A running sitegate."""

    def __init__(self, args, dir, config):
        self.args, self.dir = args, dir
        self.path = f"{dir}/gateway.toml"
        os.makedirs(dir, exist_ok=True)
        with open(self.path, "w") as file:
            file.write(config)
        self.child = None

    def start(self, ready):
        began = time.monotonic()
        self.child = subprocess.Popen(
            [self.args.sitegate, "run", "--config", self.path],
            stderr=open(f"{self.dir}/log", "a"),
            stdout=subprocess.DEVNULL,
        )
        while not ready():
            if self.child.poll() is not None:
                sys.exit(open(f"{self.dir}/log").read()[-2000:])
            time.sleep(0.002)
        return time.monotonic() - began

    def stop(self, sign=signal.SIGTERM):
        self.child.send_signal(sign)
        self.child.wait()

    def said(self, *args):
        done = subprocess.run(
            [self.args.sitegate, *args, "--config", self.path], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{args}: {done.stderr}")
        return done.stdout.strip()

    def cpu(self, without=()):
        """Processor time, in seconds, without threads of these names."""
        total = 0
        for path in glob.glob(f"/proc/{self.child.pid}/task/*/stat"):
            try:
                name, fields = open(path).read().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue
            if not name.startswith(tuple(without)):
                total += sum(map(int, fields.split()[11:13]))
        return total / TICKS

    def written(self):
        lines = open(f"/proc/{self.child.pid}/io").read().splitlines()
        return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])

    def memory(self):
        """Resident memory, now and at most, in MiB."""
        lines = open(f"/proc/{self.child.pid}/status").read().splitlines()
        of = lambda name: int(next(l for l in lines if l.startswith(name)).split()[1]) // 1024
        return of("VmRSS"), of("VmHWM")


class Client:
    """One kept-alive connection to a gateway."""

    def __init__(self, at):
        self.at, self.connection = at, None
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def status(self, token):
        for attempt in range(2):
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPSConnection(
                        "127.0.0.1", self.at, context=self.context, timeout=20
                    )
                fields = {"Host": HOST, "Authorization": f"Bearer {token}"}
                self.connection.request("GET", POLICY, headers=fields)
                answer = self.connection.getresponse()
                answer.read()
                return answer.status
            except (OSError, http.client.HTTPException):
                self.connection = None
        return 0


def ready(at):
    def look():
        try:
            with socket.create_connection(("127.0.0.1", at), timeout=1) as raw:
                raw.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                return b" 200 " in raw.recv(200)
        except OSError:
            return False

    return look


def config(args, dir, listen, metrics, backend, more, site=""):
    return f"""[site]
code = "PS1"
state = "{dir}/state"
{site}
[admin]
listen = "127.0.0.1:{port()}"
[metrics]
listen = "127.0.0.1:{metrics}"
[[site_system]]
name = "mp01"
roles = ["management-point", "distribution-point"]
listen = "127.0.0.1:{listen}"
hosts = ["{HOST}"]
backend = "{backend}"
token_service = true
{more}
"""


def guid(n):
    return str(uuid.UUID(int=n))


def fill_sqlite(path, args):
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous = OFF")
    now = int(time.time())

    def many(sql, rows):
        db.executemany(sql, rows)
        db.commit()

    name = lambda n: guid(n + (1 << 100))
    many(
        "INSERT INTO devices (id, name, entra, approved, via, registered) VALUES (?, ?, ?, 1, 'entra', ?)",
        ((f"GUID:{name(n).upper()}", name(n), guid(n + (2 << 100)), now) for n in range(args.devices)),
    )
    many(
        "INSERT INTO device_keys (thumbprint, device, jwk, added, place, active, via) "
        "VALUES (?, ?, '{}', ?, 1, 1, 'entra')",
        (
            (base64.urlsafe_b64encode(n.to_bytes(32, "big")).decode()[:43], f"GUID:{name(n).upper()}", now)
            for n in range(args.devices)
        ),
    )
    many(
        "INSERT INTO tokens (id, issuer, purpose, device, audience, issued, expires) "
        "VALUES (?, ?, 'client', ?, 'urn:sccm:service', ?, ?)",
        (
            (guid(n + (3 << 100)), ISSUER, f"GUID:{name(n % args.devices).upper()}", now - n, now + 86400)
            for n in range(args.tokens)
        ),
    )
    known = args.blocks // 4
    # A known device is told by three ids: its own, Entra's, and its key's.
    many(
        "INSERT INTO blocks (kind, issuer, name, shown, at, actor) VALUES ('device', '', ?, ?, ?, 'bench')",
        ((name(n), f"GUID:{name(n).upper()}", now) for n in range(known)),
    )
    many(
        "INSERT INTO blocks (kind, issuer, name, shown, at, actor) VALUES ('token', ?, ?, ?, ?, 'bench')",
        ((ISSUER, guid(n + (4 << 100)), guid(n + (4 << 100)), now) for n in range(args.blocks - 3 * known)),
    )
    db.execute("UPDATE state SET block_version = block_version + 1")
    db.execute(
        "INSERT INTO block_history (version, mark) SELECT block_version, 'bench' FROM state"
    )
    db.commit()
    db.execute("ANALYZE")
    db.commit()
    db.close()


def fill_postgres(url, args):
    known = args.blocks // 4
    sql = f"""
    CREATE FUNCTION g(n bigint, k int) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT lower(lpad(to_hex(k), 8, '0') || '-0000-0000-0000-' || lpad(to_hex(n), 12, '0')) $$;
    INSERT INTO devices (id, name, entra, approved, via, registered)
    SELECT 'GUID:' || upper(g(n, 1)), g(n, 1), g(n, 2), TRUE, 'entra', extract(epoch from now())::bigint
    FROM generate_series(1, {args.devices}) n;
    INSERT INTO device_keys (thumbprint, device, jwk, added, place, active, via)
    SELECT rpad(n::text, 43, 'k'), 'GUID:' || upper(g(n, 1)), '{{}}', 1, 1, TRUE, 'entra'
    FROM generate_series(1, {args.devices}) n;
    INSERT INTO tokens (id, issuer, purpose, device, audience, issued, expires)
    SELECT g(n, 3), '{ISSUER}', 'client', 'GUID:' || upper(g(1 + n % {args.devices}, 1)), 'urn:sccm:service',
    extract(epoch from now())::bigint - n, extract(epoch from now())::bigint + 86400
    FROM generate_series(1, {args.tokens}) n;
    INSERT INTO blocks (kind, issuer, name, shown, at, actor)
    SELECT 'device', '', g(n, 1), 'GUID:' || upper(g(n, 1)), 1, 'bench' FROM generate_series(1, {known}) n;
    INSERT INTO blocks (kind, issuer, name, shown, at, actor)
    SELECT 'token', '{ISSUER}', g(n, 4), g(n, 4), 1, 'bench' FROM generate_series(1, {args.blocks - 3 * known}) n;
    UPDATE state SET block_version = block_version + 1;
    INSERT INTO block_history (version, mark) SELECT block_version, 'bench' FROM state;
    DROP FUNCTION g;
    VACUUM ANALYZE;
    """
    subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", url], input=sql, text=True, check=True)


def postgres(dir):
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
    data = f"{dir}/pg"
    os.makedirs(data)
    shutil.chown(data, "nobody")
    os.chmod(dir, 0o755)
    run = ["setpriv", "--reuid", "nobody", "--clear-groups"]
    subprocess.run([*run, f"{programs}/initdb", "-A", "trust", "-U", "sitegate", "-D", f"{data}/d"],
                   check=True, stdout=subprocess.DEVNULL)
    child = subprocess.Popen(
        [*run, f"{programs}/postgres", "-D", f"{data}/d", "-k", data, "-c", "listen_addresses=",
         "-c", "shared_buffers=256MB"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"postgres://sitegate@localhost/postgres?host={data}"
    while subprocess.run(["psql", "-qc", "SELECT 1", url], capture_output=True).returncode:
        time.sleep(0.1)
    return url, child


class Site:
    def __init__(self, args, dir, backend):
        self.args, self.dir = args, dir
        self.url, self.database = postgres(dir) if args.store == "postgres" else (None, None)
        self.servers = []
        for n in range(2 if self.url else 1):
            self.servers.append(self.server(n, backend))
        self.server = self.servers[0]

    def server(self, n, backend):
        home = f"{self.dir}/site{n}"
        at, listen, metrics = port(), port(), port()
        os.makedirs(home, exist_ok=True)
        site = f'token_issuer = "{ISSUER}"\ndomains = ["contoso.com"]\n'
        store = ""
        if self.url:
            with open(f"{self.dir}/seal", "a") as file:
                if not file.tell():
                    file.write(base64.b64encode(os.urandom(32)).decode())
            os.chmod(f"{self.dir}/seal", 0o600)
            with open(f"{home}/store", "w") as file:
                file.write(self.url)
            os.chmod(f"{home}/store", 0o600)
            site += f'seal = "file:{self.dir}/seal"\n'
            store = f'store = "file:{home}/store"\n'
        more = f"""[token_service]
registrations_per_minute = 100000
requests_per_minute = 1000000
{store}
[[site_system]]
name = "site0{n}"
roles = ["site-server"]
listen = "127.0.0.1:{at}"
hosts = ["127.0.0.1"]
default = true
"""
        process = Process(self.args, home, config(self.args, home, listen, metrics, backend, more, site))
        process.at, process.listen, process.ready = at, listen, ready(metrics)
        return process

    def start(self):
        return [server.start(server.ready) for server in self.servers]


def join(site, n, backend, args):
    home = f"{site.dir}/gw{n}"
    listen, metrics = port(), port()
    # Every second gateway of a site with two servers asks the second one first.
    more = f'[site_server]\nname = "gw{n}"\njoin = "file:{home}/join-token"\n'
    gateway = Process(args, home, config(args, home, listen, metrics, backend, more))
    gateway.listen, gateway.ready = listen, ready(metrics)
    server = site.servers[n % len(site.servers)]
    roles = ["--role", "management-point", "--role", "distribution-point"]
    token = server.said("site", "join-token", f"gw{n}", "--host", HOST, *roles)
    with open(f"{home}/join-token", "w") as file:
        file.write(token)
    os.chmod(f"{home}/join-token", 0o600)
    return gateway


def blocks(site, gateways, args, changes):
    """Blocks devices one by one; returns wall times, and processor times of each process."""
    devices = [f"GUID:{uuid.uuid4()}".upper() for _ in range(changes)]
    tokens = [site.server.said("token", "issue", "--device", device) for device in devices]
    clients = [Client(gateway.listen) for gateway in gateways]
    for client in clients:
        for token in tokens:
            assert client.status(token) == 200, "a good token passes"
    # The requests of this bench run on threads of their own.
    clients_of = ("shard", "access-log")
    costs = lambda: [s.cpu() for s in site.servers] + [g.cpu(clients_of) for g in gateways]
    times, before = [], costs()
    for device, token in zip(devices, tokens):
        began = time.monotonic()
        command = subprocess.Popen(
            [args.sitegate, "site", "block", "--no-wait", device, "--config", site.server.path],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        waiting = list(clients)
        while waiting:
            waiting = [client for client in waiting if client.status(token) != 403]
            time.sleep(0.01)
            if time.monotonic() - began > 60:
                sys.exit("a block did not arrive within a minute")
        times.append(time.monotonic() - began)
        command.wait()
    return times, [(b - a) / changes * 1000 for a, b in zip(before, costs())]


def bytes_of_a_delta(gateways):
    lines = open(f"{gateways[0].dir}/state/site-server/bundle-deltas.jws", "rb").read().splitlines()
    return max(map(len, lines[-20:]), default=0)


def identities(dir, count):
    """Certificates of gateways with one key: file and thumbprint of each."""
    key = f"{dir}/poller.key"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
    made = []
    for n in range(count):
        path = f"{dir}/poller{n}.pem"
        subprocess.run(["openssl", "req", "-x509", "-key", key, "-subj", f"/CN=bench{n}", "-days", "2", "-out", path],
                       check=True, stderr=subprocess.DEVNULL)
        text = open(path).read()
        with open(path, "a") as file:
            file.write(open(key).read())
        thumbprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).digest()
        made.append((path, base64.urlsafe_b64encode(thumbprint).decode().rstrip("=")))
    return made


async def poller(port, path, n, held, chain, told):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(path)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, local_addr=(f"127.1.{n // 250}.{n % 250 + 1}", 0))
    told["connected"] += 1
    request = (
        f"GET /sitegate/site/v1/bundle?held={held}&chain={chain} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    )
    writer.write(request.encode())
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    told["times"].append(time.monotonic())
    writer.close()


def crowd(site, gateways, count, args):
    """Long polls of many gateways at the site server: block → the last one is told."""
    server = site.server
    own = identities(site.dir, count)
    rows = [(f"bench{n}", thumbprint) for n, (_, thumbprint) in enumerate(own)]
    now = int(time.time())
    if site.url:
        sql = "".join(
            f"INSERT INTO gateways (name, hosts, roles, joined, bundle) VALUES ('{name}', '', '', {now}, 0);"
            f"INSERT INTO gateway_identities VALUES ('{thumbprint}', '{name}', {now}, {now + 86400});"
            for name, thumbprint in rows)
        subprocess.run(["psql", "-q", site.url], input=sql, text=True, check=True)
    else:
        db = sqlite3.connect(f"{server.dir}/state/store/site.db", timeout=30)
        db.executemany(f"INSERT INTO gateways (name, hosts, roles, joined, bundle) VALUES (?, '', '', {now}, 0)",
                       [(name,) for name, _ in rows])
        db.executemany(
            f"INSERT INTO gateway_identities (gateway, thumbprint, added, expires) VALUES (?, ?, {now}, {now + 86400})",
            rows)
        db.commit()
        db.close()
    # A change brings all documents up to date with the new gateways.
    server.said("site", "block", f"GUID:{uuid.uuid4()}".upper())
    time.sleep(6)
    lines = open(f"{gateways[0].dir}/state/site-server/bundle-deltas.jws").read().splitlines()
    last = json.loads(base64.urlsafe_b64decode(lines[-1].split(".")[1] + "=="))
    digest = hashlib.sha256(lines[-1].rsplit(".", 1)[0].encode()).digest()
    chain = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    told = {"connected": 0, "times": []}

    async def all():
        polls = [asyncio.create_task(poller(server.at, path, n, last["version"], chain, told))
                 for n, (path, _) in enumerate(own)]
        while told["connected"] < count:
            await asyncio.sleep(0.05)
        await asyncio.sleep(5)
        early = len(told["times"])
        before, began = server.cpu(), time.monotonic()
        command = await asyncio.create_subprocess_exec(
            args.sitegate, "site", "block", "--no-wait", f"GUID:{uuid.uuid4()}".upper(), "--config", server.path,
            stderr=asyncio.subprocess.DEVNULL)
        await asyncio.wait_for(asyncio.gather(*polls), 60)
        await command.wait()
        return max(told["times"]) - began, server.cpu() - before, early

    return asyncio.run(all())


def revocations(site, seconds):
    """One revoked token in each second: the share of a core of each site server."""
    before = [server.cpu() for server in site.servers]
    written = sum(server.written() for server in site.servers)
    began = time.monotonic()
    for n in range(seconds):
        site.server.said("token", "block", "--no-wait", str(uuid.uuid4()))
        time.sleep(max(0, began + n + 1 - time.monotonic()))
    span = time.monotonic() - began
    shares = [(server.cpu() - cpu) / span * 100 for server, cpu in zip(site.servers, before)]
    return shares, (sum(server.written() for server in site.servers) - written) / span / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sitegate", required=True)
    parser.add_argument("--store", default="sqlite", choices=["sqlite", "postgres"])
    parser.add_argument("--devices", type=int, default=500_000)
    parser.add_argument("--blocks", type=int, default=500_000)
    parser.add_argument("--tokens", type=int, default=3_000_000)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--pollers", type=int, default=1_000)
    parser.add_argument("--revocations", type=int, default=30)
    args = parser.parse_args()
    args.sitegate = os.path.abspath(args.sitegate)
    backend_server = Server(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend_server.serve_forever, daemon=True).start()
    backend = f"http://127.0.0.1:{backend_server.server_address[1]}"
    dir = tempfile.mkdtemp(prefix="sitegate-bench-")
    site, gateways, report = Site(args, dir, backend), [], []

    def say(what, value):
        print(f"{what:<62} {value}", flush=True)

    try:
        # Empty first: the same measurement for the ratio.
        site.start()
        gateways = [join(site, n, backend, args) for n in range(GATEWAYS)]
        for gateway in gateways:
            gateway.start(gateway.ready)
        times, cost = blocks(site, gateways, args, min(args.changes, 20))
        servers = len(site.servers)
        say("empty store: block to denied on five, median / worst (ms)",
            f"{statistics.median(times) * 1000:.0f} / {max(times) * 1000:.0f}")
        say("empty store: processor time of a block, server / gateway (ms)",
            f"{max(cost[:servers]):.1f} / {statistics.median(cost[servers:]):.1f}")
        for server in site.servers:
            server.stop()
        began = time.monotonic()
        if site.url:
            fill_postgres(site.url, args)
        else:
            fill_sqlite(f"{site.server.dir}/state/store/site.db", args)
        say("filled (s)", f"{time.monotonic() - began:.0f}")
        say("site server: start to ready, first time (s)", " ".join(f"{s:.2f}" for s in site.start()))
        time.sleep(12)
        for server in site.servers:
            server.stop()
        say("site server: start to ready (s)", " ".join(f"{s:.2f}" for s in site.start()))
        time.sleep(10)
        for gateway in gateways:
            gateway.stop()
        say("gateway: start to ready (s)", " ".join(f"{g.start(g.ready):.2f}" for g in gateways))
        fresh = join(site, GATEWAYS, backend, args)
        say("a new gateway: join to ready (s)", f"{fresh.start(fresh.ready):.2f}")
        fresh.stop()
        time.sleep(3)
        site.server.said("site", "block", f"GUID:{uuid.uuid4()}".upper())
        times, cost = blocks(site, gateways, args, args.changes)
        say("block to denied on five, median / worst (ms)",
            f"{statistics.median(times) * 1000:.0f} / {max(times) * 1000:.0f}")
        say("processor time of a block, server / gateway (ms)",
            f"{' '.join(f'{c:.1f}' for c in cost[:servers])} / {statistics.median(cost[servers:]):.1f}")
        say("bytes to a gateway for a block", bytes_of_a_delta(gateways))
        say("site server: memory, now / at most (MiB)",
            " ".join("%d / %d" % server.memory() for server in site.servers))
        say("gateways: memory, now / at most (MiB)",
            " ".join("%d / %d" % gateway.memory() for gateway in gateways))
        shares, written = revocations(site, args.revocations)
        say("a revocation each second: % of a core; KiB/s written",
            f"{' '.join(f'{s:.1f}' for s in shares)}; {written:.0f}")
        if args.pollers:
            last, cpu, early = crowd(site, gateways, args.pollers, args)
            say(f"{args.pollers} gateways: block to the last one told (s); processor time (ms)",
                f"{last:.2f}; {cpu * 1000:.0f}" + (f" ({early} were told earlier)" if early else ""))
    finally:
        for process in [*gateways, *site.servers]:
            if process.child and process.child.poll() is None:
                process.stop(signal.SIGKILL)
        if site.database:
            site.database.terminate()
            site.database.wait()
        if os.environ.get("KEEP"):
            print(dir)
        else:
            shutil.rmtree(dir, ignore_errors=True)


main()
