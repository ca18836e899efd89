from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0007_prepared'),
    ]

    operations = [
        migrations.AddField(
            model_name='creationbucket',
            name='refusals',
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='creationbucket',
            name='wake_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='turn',
            name='end_reason',
            field=models.CharField(
                blank=True,
                choices=[
                    ('follow_up', 'Stopped for a follow-up'),
                    ('budget', 'Budget used up'),
                    ('lifetime', 'Sandbox at its end'),
                ],
                max_length=20,
            ),
        ),
    ]
