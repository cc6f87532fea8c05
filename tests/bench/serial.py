"""The plain serial loop: one message after the other, as the AWS guidance's queue agent does it."""

from tests.bench.steps import Steps


def main() -> None:
    """Work until the process is ended."""
    steps = Steps()
    while True:
        for message in steps.receive():
            steps.deliver(message, steps.generate(message))


if __name__ == "__main__":
    main()
