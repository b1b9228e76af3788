"""Clients that hurt: each sends half a request, and then a byte now and then, for as long as it is let; then it comes again.

    slow_clients.py ADDRESS COUNT      says `ready` once all are connected; ends with its standard input
"""

import asyncio
import sys

from places import PATH

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: slow\r\n"
# Half of them never end their headers, the others never end their bodies.
KINDS = [
    f"{HEAD}X-Slow: ".encode(),
    f'{HEAD}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"limit": '.encode(),
]
PAUSE_SECONDS = 1


async def client(host, port, kind, connected, phase):
    # In step with each other they would be a burst once a second, and mostly one of this process's own work.
    await asyncio.sleep(phase * PAUSE_SECONDS)
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            connected.release()
            writer.write(KINDS[kind])
            while not reader.at_eof():
                try:
                    await asyncio.wait_for(reader.read(4096), PAUSE_SECONDS)
                except asyncio.TimeoutError:
                    writer.write(b"1")
            writer.close()
        except OSError:
            await asyncio.sleep(PAUSE_SECONDS)


async def main(address, count):
    host, port = address.split(":")
    connected = asyncio.Semaphore(0)
    clients = [asyncio.create_task(client(host, int(port), n % len(KINDS), connected, n / count)) for n in range(count)]
    for _ in range(count):
        await connected.acquire()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in clients:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
