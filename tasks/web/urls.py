"""Addresses. A page's address never changes what is stored; what changes something takes POST."""

from django.urls import path

from tasks.web import account, attachments, home, prompt_templates, repos, run, settings_page, task
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
    path("runs/<int:pk>/follow-ups/<int:number>/remove", run.withdraw, name="run-withdraw"),
    path("attachments/", attachments.attachments, name="attachments"),
    path("attachments/<int:pk>", attachments.attachment, name="attachment"),
    path("attachments/<int:pk>/remove", attachments.remove, name="attachment-remove"),
    path("prompts/", prompt_templates.prompts, name="prompts"),
    path("prompts/new", prompt_templates.new, name="prompt-new"),
    path("prompts/<int:pk>/", prompt_templates.prompt, name="prompt"),
    path("prompts/<int:pk>/text", prompt_templates.text, name="prompt-text"),
    path("prompts/<int:pk>/remove", prompt_templates.remove, name="prompt-remove"),
    path("pick/prompts", prompt_templates.pick, name="pick-prompts"),
    path("repos/", repos.repos, name="repos"),
    path("repos/<int:pk>/", repos.repo, name="repo"),
    path("repos/<int:pk>/fetch", repos.fetch_again, name="repo-fetch"),
    path("repos/<int:pk>/remove", repos.remove, name="repo-remove"),
    path("repos/<int:pk>/variables", repos.set_variable, name="variable-set"),
    path("repos/<int:pk>/variables/<str:name>/remove", repos.remove_variable, name="variable-remove"),
    path("sign-in/", account.sign_in, name="sign-in"),
    path("sign-in/link/<str:token>/", account.login_link, name="login-link"),
    path("sign-out", account.sign_out, name="sign-out"),
    path("favicon.ico", account.favicon),
    path("settings/", settings_page.page, name="settings"),
    path("settings/profile", settings_page.profile, name="settings-profile"),
    path("settings/theme", settings_page.theme, name="settings-theme"),
    path("settings/notifications", settings_page.notify, name="settings-notify"),
    path("settings/password", settings_page.password, name="settings-password"),
    path("settings/tokens", settings_page.token, name="settings-token"),
    path("settings/tokens/<int:pk>/revoke", settings_page.revoke_token, name="token-revoke"),
    path("settings/sessions/end", settings_page.end_sessions, name="sessions-end"),
]
websocket_urlpatterns = [
    path("ws/user/", UserConsumer.as_asgi()),
    path("ws/tasks/<int:pk>/", TaskConsumer.as_asgi()),
    path("ws/runs/<int:pk>/", RunConsumer.as_asgi()),
]
