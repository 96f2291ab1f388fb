"""throttle.py LISTEN TARGET BYTES_PER_SECOND: forwards TCP connections, with a limit on the rate of all answers together."""

import asyncio
import sys

BLOCK = 64 << 10


class Pace:
    """Shared by all connections: the time at which the bytes forwarded so far have used up the rate."""

    def __init__(self, bytes_per_second):
        self.seconds, self.free = 1 / bytes_per_second, 0.0

    async def spend(self, length):
        now = asyncio.get_running_loop().time()
        self.free = max(self.free, now) + self.seconds * length
        await asyncio.sleep(self.free - now)


async def main(listen, target, bytes_per_second):
    pace = Pace(bytes_per_second)

    async def copy(reader, writer, spend):
        try:
            while data := await reader.read(BLOCK):
                writer.write(data)
                await writer.drain()
                if spend:
                    await spend(len(data))
        except OSError:
            pass
        finally:
            writer.close()

    async def forward(reader, writer):
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*split(target), limit=BLOCK)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            copy(reader, upstream_writer, None), copy(upstream_reader, writer, pace.spend)
        )

    server = await asyncio.start_server(forward, *split(listen))
    await server.serve_forever()


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
