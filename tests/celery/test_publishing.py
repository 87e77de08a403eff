"""The dispatcher's transport on real brokers: what arrives, how fast a broken broker is given up, what is said then."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import amqp
import msgspec
import pytest
from celery import Celery, signals
from celery.events.event import get_exchange
from kombu import Connection, Consumer, Exchange, Queue

from continuum.celery_executor.checks import broker_findings
from continuum.celery_executor.transport import CeleryTransport
from continuum.config import Settings
from continuum.declare.registry import Registry
from continuum.model.ids import new_run_id
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import DispatchedTask, TaskRef
from continuum.runtime.transport import PublishError
from tests.celery.brokers import Broker, free_port
from tests.celery.proxy import Proxy
from tests.support.eventually import eventually

QUEUE = "publishing"
# What publish() may take on any broker: connecting (4 s for each address), ten seconds, and one answer (5 s).
LONGEST = 25.0

Open = Callable[..., CeleryTransport]


@pytest.fixture
def open_transport() -> Iterator[Open]:
    opened = []

    def build(url: str, **config: Any) -> CeleryTransport:
        app = Celery("publishing", broker=url, set_as_current=False)
        app.conf.update(config)
        settings = Settings(queue=QUEUE)
        transport = CeleryTransport(app, settings=settings, registry=Registry())
        opened.append((transport, app))
        return transport

    yield build
    for transport, app in opened:
        transport.close()
        app.close()


def tasks_of(count: int, *, queue: str = QUEUE, deadline: float = 60) -> list[DispatchedTask]:
    now = time.time_ns() // 1_000
    return [
        DispatchedTask(
            TaskRef(new_run_id(now), command, 1),
            "tests.charge",
            ActivityPolicy(queue=queue),
            dispatch_no=1,
            deadline_us=now + int(deadline * 1e6),
        )
        for command in range(count)
    ]


def received(broker: Broker, queue: str = QUEUE) -> list[Any]:
    """Take every message out of a queue."""
    messages = []
    with Connection(broker.url) as connection:
        channel = connection.channel()
        with suppress(amqp.NotFound):
            while (message := Queue(queue)(channel).get(no_ack=True)) is not None:
                messages.append(message)
    return messages


def arrived(broker: Broker, queue: str = QUEUE) -> list[int]:
    """Return the commands of the messages that are in a queue, in order, each once."""
    return list(dict.fromkeys(int(message.headers["id"].split(".")[1]) for message in received(broker, queue)))


def subscribe(connection: Connection) -> None:
    """Let a consumer begin: on Redis it subscribes when it first looks."""
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.2)


def failure_of(transport: CeleryTransport, tasks: list[DispatchedTask]) -> tuple[PublishError, float]:
    begun = time.monotonic()
    with pytest.raises(PublishError) as caught:
        transport.publish(tasks, instance="shop")
    return caught.value, time.monotonic() - begun


class TestWellBroker:
    def test_messages_arrive_in_order_each_once(self, broker: Broker, open_transport: Open) -> None:
        queue = broker.queue(QUEUE)
        open_transport(broker.url).publish(tasks_of(450, queue=queue), instance="shop")
        messages = received(broker, queue)
        assert [int(message.headers["id"].split(".")[1]) for message in messages] == list(range(450))

    def test_a_message_names_the_attempt_and_carries_no_payload(self, broker: Broker, open_transport: Open) -> None:
        queue = broker.queue(QUEUE)
        (task,) = tasks_of(1, queue=queue)
        open_transport(broker.url, task_serializer="pickle", accept_content=["pickle", "json"]).publish(
            [task], instance="shop"
        )
        (message,) = received(broker, queue)
        run = task.ref.run_id
        assert message.content_type == "application/json"
        assert json.loads(message.body)[:2] == [["shop", f"{run}.0", 1, "tests.charge"], {}]
        headers = message.headers
        assert headers["id"] == message.properties["correlation_id"] == f"{run}.0.1.1"
        assert (headers["task"], headers["shadow"]) == ("continuum.activity", "tests.charge")
        assert headers["root_id"] == run
        assert headers["argsrepr"] == f"(run {run}, command 0, attempt 1)"
        assert headers["ignore_result"] is True
        assert headers["timelimit"] == [3605, 3600]

    def test_a_queue_of_the_shop_keeps_its_arguments(self, brokers: Any, open_transport: Open) -> None:
        broker = brokers.get("rabbitmq")
        queue = broker.queue("publishing_short")
        with Connection(broker.url) as connection:
            Queue(queue, queue_arguments={"x-max-length": 7})(connection.channel()).declare()
        open_transport(broker.url).publish(tasks_of(3, queue=queue), instance="shop")
        assert arrived(broker, queue) == [0, 1, 2]

    def test_routes_with_an_exchange_of_their_own_are_followed(self, brokers: Any, open_transport: Open) -> None:
        broker = brokers.get("rabbitmq")
        name = broker.queue("publishing_media")
        media = Queue(name, Exchange("publishing_media", "topic"), routing_key="media.#")
        transport = open_transport(
            broker.url,
            task_queues=[media],
            task_routes={"tests.*": {"queue": name, "routing_key": "media.video", "priority": 3}},
        )
        placed = transport.place("tests.charge", ActivityPolicy())
        assert placed.queue == name
        transport.publish(tasks_of(2, queue=name), instance="shop")
        messages = received(broker, name)
        assert [message.delivery_info["routing_key"] for message in messages] == ["media.video"] * 2
        assert [message.properties["priority"] for message in messages] == [3, 3]

    def test_how_many_wait_is_known(self, broker: Broker, open_transport: Open) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(broker.url)
        transport.publish(tasks_of(5, queue=queue), instance="shop")
        eventually(lambda: transport.waiting(queue) == 5)

    def test_waiting_makes_no_queue(self, brokers: Any, open_transport: Open) -> None:
        broker = brokers.get("rabbitmq")
        transport = open_transport(broker.url)
        assert transport.waiting("publishing_nowhere") is None
        transport.publish(tasks_of(1, queue=broker.queue(QUEUE)), instance="shop")
        assert transport.waiting("publishing_nowhere") is None

    def test_events_are_sent_if_the_app_asks(self, broker: Broker, open_transport: Open) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(broker.url, task_send_sent_event=True)
        events = []
        with Connection(broker.url) as connection:
            channel = connection.channel()
            exchange = get_exchange(connection)
            with Consumer(channel, Queue("", exchange, "#", exclusive=True), on_message=events.append):
                subscribe(connection)
                transport.publish(tasks_of(2, queue=queue), instance="shop")
                with suppress(TimeoutError):
                    while len(events) < 2:
                        connection.drain_events(timeout=5)
        bodies = [json.loads(message.body) for message in events]
        assert [body["type"] for body in bodies] == ["task-sent"] * 2
        assert [body["name"] for body in bodies] == ["tests.charge"] * 2

    def test_tracing_sees_each_message_and_may_add_to_its_headers(self, broker: Broker, open_transport: Open) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(broker.url)
        after = []

        def mark(headers: dict[str, Any], **_: Any) -> None:
            headers["traceparent"] = "00-abc-def-01"

        def note(headers: dict[str, Any], **_: Any) -> None:
            after.append(headers["id"])

        signals.before_task_publish.connect(mark)
        signals.after_task_publish.connect(note)
        try:
            transport.publish(tasks_of(2, queue=queue), instance="shop")
        finally:
            signals.before_task_publish.disconnect(mark)
            signals.after_task_publish.disconnect(note)
        messages = received(broker, queue)
        assert [message.headers["traceparent"] for message in messages] == ["00-abc-def-01"] * 2
        assert after == [message.headers["id"] for message in messages]

    def test_withdrawn_messages_are_revoked_by_all_workers(self, broker: Broker, open_transport: Open) -> None:
        transport = open_transport(broker.url)
        (task,) = tasks_of(1)
        mail = []
        with Connection(broker.url) as connection:
            node = transport._app.control.mailbox(connection).Node("test-node@here")
            with node.listen(connection.channel(), callback=lambda body, _: mail.append(body)):
                subscribe(connection)
                transport.withdraw([(task.ref, 4)])
                connection.drain_events(timeout=5)
        assert len(mail) == 1
        assert mail[0]["method"] == "revoke"
        assert mail[0]["arguments"]["task_id"] == [f"{task.ref.run_id}.0.1.4"]

    def test_a_forked_child_leaves_the_parents_connection_alone(self, broker: Broker, open_transport: Open) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(broker.url)
        transport.publish(tasks_of(1, queue=queue), instance="shop")
        pid = os.fork()
        if pid == 0:
            code = 1
            with suppress(BaseException):
                transport.publish(tasks_of(2, queue=queue)[1:], instance="shop")
                transport.close()
                code = 0
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        wire = transport._wire
        transport.publish(tasks_of(3, queue=queue)[2:], instance="shop")
        assert transport._wire is wire
        assert arrived(broker, queue) == [0, 1, 2]

    def test_a_filesystem_broker_works(self, tmp_path: Any, open_transport: Open) -> None:
        folders = {name: str(tmp_path / "mail") for name in ("data_folder_in", "data_folder_out")}
        options = {**folders, "control_folder": str(tmp_path / "control")}
        (tmp_path / "mail").mkdir()
        (tmp_path / "control").mkdir()
        transport = open_transport("filesystem://", broker_transport_options=options)
        transport.check()
        transport.publish(tasks_of(3), instance="shop")
        assert transport.waiting(QUEUE) == 3


class TestBrokenBroker:
    def test_a_broker_that_refuses_is_given_up_soon(self, broker: Broker, open_transport: Open) -> None:
        url = broker.url.replace(broker.url.rpartition(":")[2].split("/")[0], str(free_port()))
        error, seconds = failure_of(open_transport(url), tasks_of(100))
        assert error.sent == 0
        assert seconds < 5
        assert "cannot be reached" in str(error)
        assert "guest:guest" not in str(error)

    @pytest.mark.parametrize("scheme", ["redis", "amqp"])
    def test_a_host_that_does_not_exist_is_given_up_soon(self, scheme: str, open_transport: Open) -> None:
        error, seconds = failure_of(open_transport(f"{scheme}://no-such-host.invalid"), tasks_of(100))
        assert error.sent == 0
        assert seconds < LONGEST

    def test_a_broker_that_never_answers_is_given_up_in_seconds(
        self, broker: Broker, proxy: Proxy, open_transport: Open
    ) -> None:
        proxy.freeze()
        error, seconds = failure_of(open_transport(proxy.url), tasks_of(100, queue=broker.queue(QUEUE)))
        assert error.sent == 0
        assert seconds < LONGEST

    def test_a_broker_that_falls_silent_later_is_given_up_in_seconds(
        self, broker: Broker, proxy: Proxy, open_transport: Open
    ) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(proxy.url)
        transport.publish(tasks_of(1, queue=queue), instance="shop")
        proxy.freeze()
        error, seconds = failure_of(transport, tasks_of(600, queue=queue))
        assert error.sent == 0
        assert seconds < LONGEST
        proxy.thaw()

    @pytest.mark.parametrize("after", [30_000, 200_000, 400_000])
    def test_a_cut_in_the_middle_of_a_batch_counts_no_lost_message(
        self, broker: Broker, proxy: Proxy, open_transport: Open, after: int
    ) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(proxy.url)
        transport.publish(tasks_of(1, queue=queue), instance="shop")
        received(broker, queue)
        tasks = tasks_of(1_000, queue=queue)
        proxy.cut_after(after)
        # A connection that fails within a second is replaced once; the second cut is what is told.
        try:
            transport.publish(tasks, instance="shop")
            sent = len(tasks)
        except PublishError as error:
            sent = error.sent
        there = arrived(broker, queue)
        assert set(range(sent)) <= set(there)

    @pytest.mark.parametrize("after", [30_000, 200_000, 400_000])
    def test_a_cut_without_a_way_back_counts_no_lost_message(
        self, broker: Broker, proxy: Proxy, open_transport: Open, after: int
    ) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(proxy.url)
        tasks = tasks_of(1_000, queue=queue)
        proxy.cut_after(after)
        error, seconds = failure_of(transport, tasks)
        assert error.sent < len(tasks)
        assert set(range(error.sent)) <= set(arrived(broker, queue))
        assert seconds < LONGEST
        # The rest goes out on the next connection.
        transport.publish(tasks[error.sent :], instance="shop")

    @pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
    def test_messages_whose_confirmation_is_lost_are_not_counted(
        self, broker: Broker, proxy: Proxy, open_transport: Open
    ) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(proxy.url)
        tasks = tasks_of(10, queue=queue)
        proxy.lose_answer_to(b".7.1.1")
        error, seconds = failure_of(transport, tasks)
        assert error.sent <= 7
        assert seconds < LONGEST

    def test_a_restarted_broker_costs_nothing(self, broker: Broker, proxy: Proxy, open_transport: Open) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(proxy.url)
        transport.publish(tasks_of(1, queue=queue), instance="shop")
        proxy.cut()
        transport.publish(tasks_of(3, queue=queue), instance="shop")
        assert arrived(broker, queue) == [0, 1, 2]

    def test_hints_to_a_silent_broker_end_in_seconds(self, proxy: Proxy, open_transport: Open) -> None:
        transport = open_transport(proxy.url)
        proxy.freeze()
        begun = time.monotonic()
        assert transport.waiting(QUEUE) is None
        transport.withdraw([(tasks_of(1)[0].ref, 1)])
        transport.close()
        assert time.monotonic() - begun < LONGEST

    def test_an_unreachable_broker_is_a_finding(self, open_transport: Open) -> None:
        transport = open_transport(f"redis://127.0.0.1:{free_port()}/0")
        (finding,) = broker_findings(transport._app)
        assert finding.code == "broker-unreachable"
        assert "wait in Postgres" in finding.message


class TestRefusedQueue:
    @pytest.fixture
    def broker(self, brokers: Any) -> Broker:
        return brokers.get("rabbitmq")

    def test_a_queue_with_other_arguments_is_told_apart_and_holds_up_nobody(
        self, broker: Broker, open_transport: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        good, bad = broker.queue(QUEUE), broker.queue("publishing_bad")
        with Connection(broker.url) as connection:
            Exchange("publishing_bad", "fanout")(connection.channel()).declare()
        mistaken = Queue(bad, Exchange("publishing_bad", "topic"), routing_key="#")
        transport = open_transport(broker.url, task_queues=[mistaken])
        first, last = tasks_of(2, queue=good)
        (spoilt,) = tasks_of(1, queue=bad)
        transport.publish([first, spoilt, last], instance="shop")
        assert arrived(broker, good) == [0, 1]
        (said,) = caplog.messages
        assert "other arguments" in said
        assert "task_queues" in said
        transport.publish([spoilt, last], instance="shop")  # the bad one is passed over, and nothing is said
        assert arrived(broker, good) == [1]
        assert caplog.messages == [said]

    def test_many_refused_queues_hold_up_nobody(self, broker: Broker, open_transport: Open) -> None:
        good, bad = broker.queue(QUEUE), [broker.queue(f"publishing_bad{number}") for number in range(8)]
        with Connection(broker.url) as connection:
            Exchange("publishing_bad", "fanout")(connection.channel()).declare()
        exchange = Exchange("publishing_bad", "topic")
        transport = open_transport(broker.url, task_queues=[Queue(name, exchange, routing_key="#") for name in bad])
        first, last = tasks_of(2, queue=good)
        spoilt = [task for name in bad for task in tasks_of(1, queue=name)]
        transport.publish([first, *spoilt, last], instance="shop")
        assert arrived(broker, good) == [0, 1]

    def test_what_was_sent_before_a_refusal_is_all_that_is_sure(
        self, broker: Broker, proxy: Proxy, open_transport: Open
    ) -> None:
        good, bad = broker.queue(QUEUE), broker.queue("publishing_bad")
        with Connection(broker.url) as connection:
            Exchange("publishing_bad", "fanout")(connection.channel()).declare()
        mistaken = Queue(bad, Exchange("publishing_bad", "topic"), routing_key="#")
        transport = open_transport(proxy.url, task_queues=[mistaken])
        tasks = tasks_of(5, queue=good)
        (spoilt,) = tasks_of(1, queue=bad)
        proxy.lose_answer_to(b".4.1.1")
        error, _ = failure_of(transport, [*tasks[:2], spoilt, *tasks[2:]])
        assert error.sent == 2

    def test_a_queue_that_was_deleted_is_made_anew(self, broker: Broker, open_transport: Open) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(broker.url)
        transport.publish(tasks_of(1, queue=queue), instance="shop")
        broker.flush()
        transport.publish(tasks_of(3, queue=queue), instance="shop")
        assert arrived(broker, queue) == [0, 1, 2]

    def test_a_full_queue_is_told_apart(
        self, broker: Broker, open_transport: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue = broker.queue("publishing_full")
        limits = {"x-max-length": 2, "x-overflow": "reject-publish"}
        with Connection(broker.url) as connection:
            Queue(queue, queue_arguments=limits)(connection.channel()).declare()
        open_transport(broker.url).publish(tasks_of(10, queue=queue), instance="shop")
        assert arrived(broker, queue) == [0, 1]
        (said,) = caplog.messages
        assert "publishing_full" in said
        assert "limit on its length" in said

    @pytest.mark.parametrize("when", ["before it is looked for", "after"])
    def test_a_key_of_redis_that_is_no_queue_is_told_apart(
        self, brokers: Any, open_transport: Open, caplog: pytest.LogCaptureFixture, when: str
    ) -> None:
        broker = brokers.get("redis")
        good, bad = broker.queue(QUEUE), broker.queue("publishing_cache")
        transport = open_transport(broker.url)
        (spoilt,) = tasks_of(1, queue=bad)
        if when == "after":
            transport.publish([spoilt], instance="shop")
            assert arrived(broker, bad) == [0]
        with Connection(broker.url) as connection:
            connection.default_channel.client.set(bad, "a value")
        tasks = tasks_of(199, queue=good)  # a pipeline is full with the last of them
        transport.publish([tasks[0], spoilt, *tasks[1:]], instance="shop")
        assert arrived(broker, good) == list(range(199))
        (said,) = caplog.messages
        assert "publishing_cache" in said
        assert "holds something else" in said


class TestFlawedMessage:
    @pytest.mark.parametrize("extra", [{"compression": "no-such"}, {"headers": {"tags": {"a", "b"}}}])
    def test_a_message_that_can_never_be_written_holds_up_nobody(
        self, broker: Broker, open_transport: Open, caplog: pytest.LogCaptureFixture, extra: dict[str, Any]
    ) -> None:
        queue = broker.queue(QUEUE)
        transport = open_transport(broker.url, task_routes={"tests.spoilt": {"queue": queue, **extra}})
        tasks = tasks_of(4, queue=queue)
        tasks[1] = msgspec.structs.replace(tasks[1], activity="tests.spoilt")
        transport.publish(tasks, instance="shop")
        assert arrived(broker, queue) == [0, 2, 3]
        (said,) = caplog.messages
        assert "tests.spoilt" in said
        assert "task_routes" in said
