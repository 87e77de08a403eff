"""The tools of the Celery tests do what they say: brokers, the proxy, workers, pytest-celery's API."""

import socket
import time

import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup

from tests.celery.brokers import Broker
from tests.celery.proxy import Proxy
from tests.celery.stage import Stage
from tests.support.eventually import eventually


def publish(url: str, queue: str, count: int) -> Celery:
    app = Celery("harness", broker=url)
    # Without confirms RabbitMQ may still have them in a mailbox when it is told to stop, and drop them.
    app.conf.broker_transport_options = {"confirm_publish": True} if url.startswith("amqp") else {}
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for number in range(count):
            app.send_task("shop.add", (number, 1), queue=queue, producer=producer, ignore_result=True)
    app.close()
    return app


def test_a_broker_counts_and_loses_its_messages(broker: Broker) -> None:
    queue = broker.queue("harness")
    assert broker.queue_length(queue) == 0
    publish(broker.url, queue, 3)
    eventually(lambda: broker.queue_length(queue) == 3)
    broker.flush()
    assert broker.queue_length(queue) == 0


def test_a_stopped_broker_comes_back_at_the_same_port(broker: Broker) -> None:
    queue = broker.queue("harness")
    publish(broker.url, queue, 3)
    with broker.outage(), pytest.raises(Exception, match="(?i)refused"):
        publish(broker.url, queue, 1)
    # RabbitMQ keeps durable messages; our Redis saves nothing.
    assert broker.queue_length(queue) == (3 if broker.kind == "rabbitmq" else 0)


def test_a_setup_of_pytest_celery_runs_on_processes(celery_setup: CeleryTestSetup) -> None:
    assert celery_setup.ready(ping=False, control=True, docker=True)
    answer = celery_setup.app.send_task("shop.add", (2, 3), queue=celery_setup.worker.worker_queue)
    assert answer.get(timeout=10) == 5
    celery_setup.worker.assert_log_exists("shop.add")
    celery_setup.worker.kill()
    later = celery_setup.app.send_task("shop.add", (4, 3), queue=celery_setup.worker.worker_queue)
    celery_setup.worker.restart()
    assert later.get(timeout=10) == 7
    celery_setup.app.close()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_worker_is_killed_in_parts_and_whole(stage: Stage) -> None:
    worker = stage.worker(concurrency=2)
    first, second = eventually(lambda: len(found := worker.children()) == 2 and found)
    worker.kill_child(first)
    eventually(lambda: len(found := worker.children()) == 2 and second in found and found)
    worker.kill_all()
    assert not worker.alive and worker.children() == []
    other = stage.worker(concurrency=1)
    other.term()
    assert other.wait() == 0


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
class TestProxy:
    """Seen with bare sockets: a PING and its PONG."""

    def connect(self, proxy: Proxy) -> socket.socket:
        return socket.create_connection(("127.0.0.1", proxy.port), 3)

    def ping(self, line: socket.socket) -> bytes:
        line.sendall(b"PING\r\n")
        return line.recv(100)

    def drain(self, line: socket.socket) -> None:
        """Read until the connection is torn."""
        with pytest.raises(ConnectionResetError):
            eventually(lambda: not line.recv(100))

    def test_it_passes_and_cuts_and_refuses(self, proxy: Proxy) -> None:
        with self.connect(proxy) as line:
            assert self.ping(line) == b"+PONG\r\n"
            proxy.cut()
            assert proxy.connections == 0
            with pytest.raises(OSError):
                self.ping(line)
        with self.connect(proxy) as line:
            assert self.ping(line) == b"+PONG\r\n"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            self.connect(proxy)
        proxy.accept()
        with self.connect(proxy) as line:
            assert self.ping(line) == b"+PONG\r\n"

    def test_frozen_it_accepts_and_never_answers(self, proxy: Proxy) -> None:
        with self.connect(proxy) as line:
            assert self.ping(line) == b"+PONG\r\n"
            proxy.freeze()
            line.settimeout(0.2)
            with pytest.raises(TimeoutError):
                self.ping(line)
            with self.connect(proxy) as other:
                other.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    self.ping(other)
            proxy.thaw()
            line.settimeout(3)
            assert line.recv(100) == b"+PONG\r\n"

    def test_exactly_the_bytes_before_a_cut_arrive(self, proxy: Proxy, broker: Broker) -> None:
        queue = broker.queue("harness").encode()
        push = b"RPUSH %s one\r\n" % queue
        with self.connect(proxy) as line:
            proxy.cut_after(len(push) + 5)
            line.sendall(push + push)
            self.drain(line)
        eventually(lambda: broker.queue_length(queue.decode()) == 1)
        with self.connect(proxy) as line:
            proxy.cut_at(b"two")
            line.sendall(push + b"RPUSH %s t" % queue)
            assert line.recv(100) == b":2\r\n"
            line.sendall(b"wo\r\n")
            self.drain(line)
        assert broker.queue_length(queue.decode()) == 2

    def test_an_answer_is_lost_though_the_question_arrived(self, proxy: Proxy, broker: Broker) -> None:
        queue = broker.queue("harness")
        with self.connect(proxy) as line:
            proxy.lose_answer_to(b"three")
            line.sendall(b"RPUSH %s three\r\n" % queue.encode())
            eventually(lambda: broker.queue_length(queue) == 1)
            assert proxy.muted
            line.settimeout(0.2)
            with pytest.raises(TimeoutError):
                line.recv(100)

    def test_it_delays(self, proxy: Proxy) -> None:
        with self.connect(proxy) as line:
            proxy.delay(0.1)
            begun = time.monotonic()
            assert self.ping(line) == b"+PONG\r\n"
            assert time.monotonic() - begun >= 0.2
