from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0029_outgoing")]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(condition=models.Q(("is_trial", False)), fields=["repo", "-id"], name="task_repo_newest"),
        ),
    ]
