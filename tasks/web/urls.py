"""Addresses. A page's address never changes what is stored; what changes something takes POST."""

from django.urls import path

from tasks.web import account, home, repos, run, task
from tasks.web.consumers import RunConsumer, TaskConsumer, UserConsumer

urlpatterns = [
    path("", home.home, name="home"),
    path("tasks/new", task.create, name="task-create"),
    path("tasks/<int:pk>/", task.task, name="task"),
    path("tasks/<int:pk>/stop", task.stop, name="task-stop"),
    path("tasks/<int:pk>/archive", task.archive, name="task-archive"),
    path("runs/<int:pk>/", run.run, name="run"),
    path("runs/<int:pk>/events", run.events, name="run-events"),
    path("runs/<int:pk>/events.jsonl", run.raw_events, name="run-raw-events"),
    path("runs/<int:pk>/patch", run.patch, name="run-patch"),
    path("runs/<int:pk>/stop", run.stop, name="run-stop"),
    path("runs/<int:pk>/retry", run.retry, name="run-retry"),
    path("runs/<int:pk>/follow-up", run.follow_up, name="run-follow-up"),
    path("repos/", repos.repos, name="repos"),
    path("repos/<int:pk>/", repos.repo, name="repo"),
    path("repos/<int:pk>/fetch", repos.fetch_again, name="repo-fetch"),
    path("repos/<int:pk>/remove", repos.remove, name="repo-remove"),
    path("repos/<int:pk>/variables", repos.set_variable, name="variable-set"),
    path("repos/<int:pk>/variables/<str:name>/remove", repos.remove_variable, name="variable-remove"),
    path("sign-in/", account.sign_in, name="sign-in"),
    path("sign-in/link/<str:token>/", account.login_link, name="login-link"),
    path("sign-out", account.sign_out, name="sign-out"),
]
websocket_urlpatterns = [
    path("ws/user/", UserConsumer.as_asgi()),
    path("ws/tasks/<int:pk>/", TaskConsumer.as_asgi()),
    path("ws/runs/<int:pk>/", RunConsumer.as_asgi()),
]
