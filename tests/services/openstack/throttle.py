"""throttle.py LISTEN TARGET BYTES_PER_SECOND: forwards TCP connections, answers at a bounded pace each."""

import asyncio
import sys

BLOCK = 64 << 10


async def main(listen, target, pace):
    async def copy(reader, writer, seconds):
        try:
            while data := await reader.read(BLOCK):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(seconds * len(data))
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
            copy(reader, upstream_writer, 0), copy(upstream_reader, writer, 1 / pace)
        )

    server = await asyncio.start_server(forward, *split(listen))
    await server.serve_forever()


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
