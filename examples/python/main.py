"""Lists, gets and watches the tasks of a tasks-service.

    python main.py list [QUERY]
    python main.py get OWNER/NAME
    python main.py watch [QUERY]

TASKS_ADDRESS is host:port, or https://host:port for TLS; TASKS_TOKEN is a session token.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from tasks.v1.tasks_pb2 import (
    GetTaskRequest,
    ListTasksRequest,
    Task,
    TaskName,
    TaskState,
    WatchTasksRequest,
    WatchTasksResponse,
    WorkspaceStatus,
)
from tasks.v1.tasks_pb2_grpc import TasksServiceStub

# It tells gRPC to use all servers in turn, and to retry what is UNAVAILABLE.
SERVICE_CONFIG = Path(__file__).resolve().parents[2] / "proto/tasks/v1/tasks_grpc_service_config.json"

# How long a call may take, with all its retries, in seconds.
CALL_TIMEOUT = 10.0

# How long a stream may say nothing, in seconds: the service sends a heartbeat every 15.
SILENCE = 45.0

# The time before a broken stream is opened again, in seconds.
FIRST_WAIT = 0.25
LONGEST_WAIT = 10.0


class TasksClient:
    """The tasks that the owner of a session token may read."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = TasksServiceStub(channel)
        self._metadata = (("coder-session-token", token),)

    async def list(self, query: str) -> AsyncIterator[Task]:
        """Yields the tasks that match a query, page by page."""
        request = ListTasksRequest(query=query, page_size=200)
        while True:
            page = await self._stub.ListTasks(request, metadata=self._metadata, timeout=CALL_TIMEOUT)
            for task in page.tasks:
                yield task
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get(self, owner: str, name: str) -> Task:
        """Gets a task by its owner, such as "me", and its name."""
        request = GetTaskRequest(name=TaskName(owner=owner, name=name))
        response = await self._stub.GetTask(request, metadata=self._metadata, timeout=CALL_TIMEOUT)
        return response.task

    async def watch(self, query: str) -> AsyncIterator[WatchTasksResponse | None]:
        """Yields what happens to the tasks that match a query, beginning with what they are.

        A stream that breaks is resumed behind the last message that was received. Where that cannot be, it yields None: all that
        is known must be forgotten, and is told anew.
        """
        token, wait = "", FIRST_WAIT
        while True:
            try:
                async for message in self._stream(query, token):
                    token, wait = message.resume_token, FIRST_WAIT
                    yield message
                reason = "the stream has ended"
            except asyncio.TimeoutError:
                reason = "the stream is silent"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
                if cannot_resume(error, token):
                    token = ""
                    yield None
                elif error.code() not in BROKEN:
                    raise
            # Half of it is random, so that the clients of a service that has restarted do not all come back at once.
            pause = random.uniform(wait / 2, wait)
            print(f"tasks: {reason}; again in {pause:.2f} s", file=sys.stderr, flush=True)
            await asyncio.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)

    async def _stream(self, query: str, token: str) -> AsyncIterator[WatchTasksResponse]:
        request = WatchTasksRequest(query=query, resume_token=token, include_initial=not token)
        call = self._stub.WatchTasks(request, metadata=self._metadata)
        try:
            # The other end may be gone without a word.
            while (message := await asyncio.wait_for(call.read(), SILENCE)) is not grpc.aio.EOF:
                yield message
        finally:
            call.cancel()


# How a stream ends that can be resumed: the service stops, or a proxy has cut it.
BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


def cannot_resume(error: grpc.aio.AioRpcError, token: str) -> bool:
    """Tells whether a stream that ended so has to begin without its token."""
    if error.code() == grpc.StatusCode.OUT_OF_RANGE:
        return True
    # The query was good before: what is invalid now can be the token alone. If not, the same comes again without one.
    return error.code() == grpc.StatusCode.INVALID_ARGUMENT and token != ""


def open_channel(address: str) -> grpc.aio.Channel:
    options = [("grpc.service_config", SERVICE_CONFIG.read_text())]
    if address.startswith("https://"):
        return grpc.aio.secure_channel(address.removeprefix("https://"), grpc.ssl_channel_credentials(), options)
    return grpc.aio.insecure_channel(address, options)


def line(task: Task) -> str:
    """A task on one line: its id, owner and name, status, and the state that its agent has reported."""
    state = TaskState.Name(task.current_state.state) if task.HasField("current_state") else "-"
    return "\t".join([task.id, f"{task.owner_name}/{task.name}", WorkspaceStatus.Name(task.status), state])


async def print_changes(client: TasksClient, query: str) -> None:
    tasks: dict[str, Task] = {}
    async for message in client.watch(query):
        if message is None:
            tasks.clear()
            print("restarted", flush=True)
            continue
        match message.WhichOneof("event"):
            case "upserted":
                tasks[message.upserted.id] = message.upserted
                print(f"upserted\t{line(message.upserted)}", flush=True)
            case "removed":
                tasks.pop(message.removed.id, None)
                print(f"removed\t{message.removed.id}", flush=True)
            case "synced":
                print(f"synced\t{len(tasks)} tasks", flush=True)


async def run(arguments: argparse.Namespace) -> None:
    async with open_channel(os.environ.get("TASKS_ADDRESS", "127.0.0.1:50051")) as channel:
        client = TasksClient(channel, os.environ.get("TASKS_TOKEN", ""))
        match arguments.command:
            case "list":
                async for task in client.list(arguments.query):
                    print(line(task))
            case "get":
                owner, _, name = arguments.task.partition("/")
                print(line(await client.get(owner, name)))
            case "watch":
                await print_changes(client, arguments.query)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Lists, gets and watches the tasks of a tasks-service.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list").add_argument("query", nargs="?", default="")
    commands.add_parser("get").add_argument("task", metavar="OWNER/NAME")
    commands.add_parser("watch").add_argument("query", nargs="?", default="")

    running = asyncio.create_task(run(parser.parse_args()))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
        sys.stdout.flush()
    except asyncio.CancelledError:
        pass
    except BrokenPipeError:
        # The reader has what it wanted, as `head` does. When Python ends, it would try to write the rest again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except grpc.aio.AioRpcError as error:
        sys.exit(f"tasks: {error.code().name}: {error.details()}")


if __name__ == "__main__":
    asyncio.run(main())
