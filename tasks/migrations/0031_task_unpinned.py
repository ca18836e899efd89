from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0030_task_repo_newest")]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(condition=models.Q(("base_commit", "")), fields=["repo"], name="task_unpinned"),
        ),
    ]
