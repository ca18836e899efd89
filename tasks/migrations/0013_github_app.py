import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0012_publication_branch"),
    ]

    operations = [
        migrations.AddField(
            model_name="githubaccount",
            name="client_id",
            field=models.CharField(blank=True, max_length=100),
        ),
        migrations.AddField(
            model_name="githubaccount",
            name="refresh_expires_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="githubaccount",
            name="refresh_token_encrypted",
            field=models.BinaryField(default=b""),
        ),
        migrations.CreateModel(
            name="GitHubApp",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ("app_id", models.BigIntegerField()),
                ("slug", models.CharField(max_length=100)),
                ("name", models.CharField(max_length=100)),
                ("html_url", models.CharField(max_length=300)),
                ("owner", models.CharField(max_length=100)),
                ("is_of_organization", models.BooleanField(default=False)),
                ("client_id", models.CharField(max_length=100)),
                ("client_secret_encrypted", models.BinaryField()),
                ("webhook_secret_encrypted", models.BinaryField(default=b"")),
                ("private_key_encrypted", models.BinaryField()),
                ("made_at", models.DateTimeField(auto_now_add=True)),
                (
                    "made_by",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "verbose_name": "GitHub App",
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="github_app_only_one")],
            },
        ),
    ]
