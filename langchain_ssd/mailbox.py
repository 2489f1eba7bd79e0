"""A response in flight between a producer's threads and one consumer, for backends of your own.

A producer fills a :class:`Mailbox` from any thread; its consumer iterates the :class:`MailboxStream` around
it, in a thread or in an event loop.  Leaving early cancels, whatever the way.
"""

from .worker.stream import DEADLINE_GRACE, Mailbox, MailboxStream, ended_stream

__all__ = ["DEADLINE_GRACE", "Mailbox", "MailboxStream", "ended_stream"]
