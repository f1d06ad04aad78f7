"""An HTTPS server and, if told a name's addresses, a DNS server: what came in is written as JSON lines to LOG.

receiver.py CERTIFICATE KEY LOG STATUS [ADDRESS...]: on 127.0.0.1 and RECEIVER_PORT or any port, or, with addresses, on each of them at 443; the n-th
look-up of any name is answered with the n-th address, the last one for ever. The first line of LOG is the port.
"""

import http.server
import json
import os
import socket
import ssl
import struct
import sys
import threading

certificate, key, log, status, *addresses = sys.argv[1:]
lock = threading.Lock()


def write(line):
    with lock, open(log, "a") as file:
        file.write(json.dumps(line) + "\n")


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        at = self.server.server_address[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        write({"at": at, "path": self.path, "headers": headers, "body": body.decode()})
        self.send_response(int(status))
        self.send_header("location", "https://127.0.0.1:1/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def serve(address, port):
    server = http.server.ThreadingHTTPServer((address, port), Hook)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: write({"sni": name})
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def answer(packet, address):
    """To the one question of the packet: an A record, or nothing for any other type."""
    end = packet.index(b"\0", 12) + 5
    (kind,) = struct.unpack("!H", packet[end - 4 : end - 2])
    count = 1 if kind == 1 else 0
    head = packet[:2] + struct.pack("!HHHHH", 0x8180, 1, count, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
    return head + packet[12:end] + (record if count else b"")


if not addresses:
    write({"port": serve("127.0.0.1", int(os.environ.get("RECEIVER_PORT", "0")))})
    threading.Event().wait()
for address in addresses:
    serve(address, 443)
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
write({"port": 443})
asked = 0
while True:
    packet, peer = names.recvfrom(512)
    end = packet.index(b"\0", 12) + 5
    if struct.unpack("!H", packet[end - 4 : end - 2])[0] == 1:
        address = addresses[min(asked, len(addresses) - 1)]
        asked += 1
        write({"asked": asked, "told": address})
    names.sendto(answer(packet, address if asked else addresses[0]), peer)
