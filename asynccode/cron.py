"""What rqcron does by the clock (`manage.py rqcron asynccode.cron`)."""

from django.conf import settings
from rq import cron

from tasks import test_users, worlds
from tasks.github import jobs as github_jobs
from tasks.running import jobs

cron.register(jobs.reconcile_all, queue_name=settings.QUEUE_RUNS, interval=15, result_ttl=0, job_timeout=60)
cron.register(jobs.reap, queue_name=settings.QUEUE_HOST, interval=60, result_ttl=0, job_timeout=300)
cron.register(jobs.discard_prepared_strays, queue_name=settings.QUEUE_HOST, interval=3600, result_ttl=0, job_timeout=300)
cron.register(jobs.forget_sessions, queue_name=settings.QUEUE_RUNS, interval=24 * 3600, result_ttl=0, job_timeout=300)
cron.register(jobs.forget_drafts, queue_name=settings.QUEUE_RUNS, interval=3600, result_ttl=0, job_timeout=300)
cron.register(jobs.deliver_due, queue_name=settings.QUEUE_OPERATIONS, interval=15, result_ttl=0, job_timeout=120)
cron.register(jobs.forget_outgoing, queue_name=settings.QUEUE_RUNS, interval=3600, result_ttl=0, job_timeout=300)
cron.register(test_users.end_due, queue_name=settings.QUEUE_RUNS, interval=15, result_ttl=0, job_timeout=60)
cron.register(worlds.discard_strays, queue_name=settings.QUEUE_HOST, interval=600, result_ttl=0, job_timeout=300)
cron.register(github_jobs.enqueue_deliveries_again, queue_name=settings.QUEUE_RUNS, interval=60, result_ttl=0, job_timeout=60)
cron.register(github_jobs.forget_deliveries, queue_name=settings.QUEUE_RUNS, interval=24 * 3600, result_ttl=0, job_timeout=300)
cron.register(github_jobs.check_everybody, queue_name=settings.QUEUE_RUNS, interval=24 * 3600, result_ttl=0, job_timeout=3600)
cron.register(github_jobs.look_at_pull_requests, queue_name=settings.QUEUE_OPERATIONS, interval=30, result_ttl=0, job_timeout=300)
cron.register(github_jobs.settle_reviews, queue_name=settings.QUEUE_OPERATIONS, interval=60, result_ttl=0, job_timeout=120)
cron.register(github_jobs.begin_late_requests, queue_name=settings.QUEUE_RUNS, interval=20, result_ttl=0, job_timeout=60)
cron.register(github_jobs.answer_requests, queue_name=settings.QUEUE_OPERATIONS, interval=10, result_ttl=0, job_timeout=120)
cron.register(github_jobs.update_pull_requests, queue_name=settings.QUEUE_OPERATIONS, interval=30, result_ttl=0, job_timeout=300)
